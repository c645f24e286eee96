# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Tables and pictures: by hand, and as committed."""
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from mmeffmae.benchmarks.curves import read_arms
from mmeffmae.benchmarks.dense_tables import dense_table
from mmeffmae.benchmarks.results import (
    MARKERS,
    draw_plots,
    draw_tables,
    fill_markers,
)
from mmeffmae.benchmarks.shards import Shards
from mmeffmae.benchmarks.summary import draw_summary
from mmeffmae.benchmarks.tables import study_tables
from mmeffmae.benchmarks.target import fix_target
from mmeffmae.evaluation.record import write_json

ROOT = Path(__file__).parents[2]
PERCENT = (25, 50, 75, 100)


@pytest.fixture
def root(tmp_path):
    """MAE with three seeds; an arm of twice the views and half the time.

    A step of MAE takes 1 s and 10 images, of the other 2 s, 10 images and 20
    views; budgets are 100 and 100 steps.
    """
    shards = Shards(tmp_path / 'time_to_target' / 'small')
    arms = dict(
        mae=dict(seconds=1.0, views=10, curve=(50, 56, 58, 60)),
        new=dict(seconds=2.0, views=20, curve=(59, 60, 61, 62)))
    write_json(
        dict(
            kind='timing', device='cpu', machine=dict(cpu='a test'),
            packages=dict(torch='torch 2.11.0'),
            arms={
                name: dict(
                    images=10, views=of['views'], saved_bytes=2**20,
                    step_seconds=dict.fromkeys(
                        ('median', 'q1', 'q3'), of['seconds']))
                for name, of in arms.items()}), shards.timing)
    for seed in range(3):
        write_json(dict(values=dict(linear=40.0)), shards.untrained('e', seed))
        for name, of in arms.items():
            for percent, value in zip(PERCENT, of['curve']):
                write_json(
                    dict(
                        arm=name, key='k', seed=seed, rate=1, steps=percent,
                        untrained=f'untrained/e_seed{seed}.json',
                        values=dict(linear=value + 0.1 * (seed - 1)),
                        cost=dict(steps=10, energy=dict(gpu_joules=(
                            40.0 if name == 'mae' else 'not measured')))),
                    shards.branch(name, 'k', seed, percent / 100))
        if seed < 2:  # The target is fixed from two seeds, 40 to 59.95.
            continue
        fix_target(
            shards, 'mae', 'linear', [shards.untrained('e', s) for s in (0, 1)],
            [shards.branch('mae', 'k', s, 1.0) for s in (0, 1)], [])
    return tmp_path


def rows(text):
    """Cells of all table rows by their first cell."""
    lines = [line.strip('| ').split(' | ') for line in text.splitlines()
             if line.startswith('| ')]
    found = {}
    for cells in lines:
        found.setdefault(cells[0], []).append(cells[1:])
    return found


def test_time_to_target_by_hand(root):
    table = rows(study_tables(Shards(root / 'time_to_target' / 'small')))
    # 40 + 0.95 * 19.95 = 58.9525; the middle seed of mae is at 58 after 75 s
    # and at 60 after 100 s, the one of new at 40 after 0 s and at 59 after 50 s.
    mae, new = table['mae'][0], table['new'][0]
    assert mae == ['3', '100', '60.0 ± 0.1', '87', '1', '0']
    assert new[:4] == ['3', '200', '62.0 ± 0.1', '50']
    # 49.88 s over 86.91 s, and the extremes of both over one another.
    assert new[4].startswith('0.57 (0.56 to ') and new[5] == '0'


def test_a_baseline_that_learns_nothing_sets_no_target(root):
    shards = Shards(root / 'time_to_target' / 'small')
    shards.target.unlink()
    untrained = [shards.untrained('e', s) for s in (0, 1)]
    for path in untrained:
        write_json(dict(values=dict(linear=70.0)), path)
    fix_target(shards, 'mae', 'linear', untrained,
               [shards.branch('mae', 'k', s, 1.0) for s in (0, 1)], [])
    text = study_tables(shards)
    assert 'mae ends no better (60.0 ± 0.1) than the untrained encoder (70.0' in text
    assert rows(text)['new'][0] == ['3', '200', '62.0 ± 0.1', '–', '–', '–']
    assert 'probe without a target, since mae ends no better' in draw_summary(root)


def test_equal_time_images_and_views_by_hand(root):
    table = rows(study_tables(Shards(root / 'time_to_target' / 'small')))
    mae, new = table['mae'][1], table['new'][1]
    # 100 s: half of new's budget; 1,000 images: all of both; 1,000 views: half.
    assert mae == ['60.0 ± 0.1', '60.0 ± 0.1', '60.0 ± 0.1']
    assert new == ['60.0 ± 0.1 (+0.0, not resolved)', '62.0 ± 0.1 (+2.0)',
                   '60.0 ± 0.1 (+0.0, not resolved)']


def test_other_probes_have_a_target_by_the_same_rule(root):
    shards = Shards(root / 'time_to_target' / 'small')
    assert 'other probes' not in study_tables(shards)
    folders = [shards.branch(name, 'k', 0, 1.0).parent for name in ('mae', 'new')]
    for path in [*shards.root.glob('untrained/*'), *folders[0].glob('*'),
                 *folders[1].glob('*')]:
        shard = json.loads(path.read_text())
        # Twice as long as MAE's: a step takes 2 s.
        linear = dict(zip(PERCENT, (50, 56, 58, 60))).get(shard.get('steps'), 40)
        shard['values'].update(knn=linear - 20.0, explained=30.0)
        write_json(shard, path)
    text = study_tables(shards)
    header, mae, new = (rows(text)[name][2] for name in ('arm', 'mae', 'new'))
    # 20 + 0.95 * 20; nobody explains more than untrained.
    assert header[1:3] == ['time from 20.0 to 39.00 %, ratio to mae (95 %)',
                           'explained at the end, %']
    assert mae == ['40.0 ± 0.0', '1', '30.0 ± 0.0', '–']
    assert new == ['40.0 ± 0.0', '2.00 (2.00 to 2.00)', '30.0 ± 0.0', '–']


def test_numbers_of_photographs_by_hand(root):
    assert 'number of photographs' not in draw_tables(root)
    path = root / 'time_to_target' / 'small' / 'timing.json'
    timing = json.loads(path.read_text())
    for (name, size), views in zip([('mae', 5000), ('new', 200)], (10, 10)):
        timing['arms'][name].update(photographs=size, views=views)
    write_json(timing, path)
    table = rows(draw_tables(root).split('by the number of photographs')[1])
    # The fewest first; 100 steps of ten views.
    assert list(table)[2:4] == ['200', '5,000']
    assert table['photographs'][0][1:] == [
        *(f'{views} views, %' for views in (250, 500, 750, '1,000')),
        'views of each at the end']
    assert table['200'][0] == [
        '3', '59.0 ± 0.1', '60.0 ± 0.1', '61.0 ± 0.1', '62.0 ± 0.1', '5']
    assert [path.name for path in draw_plots(root)] == ['small.png', 'small_sizes.png']


def test_energy_is_not_measured_unless_always(root):
    table = rows(study_tables(Shards(root / 'time_to_target' / 'small')))
    assert table['mae'][2][-1] == '4.00'
    assert table['new'][2][-1] == 'not measured'


def test_peak_memory_of_a_gpu_has_a_column(root):
    shards = Shards(root / 'time_to_target' / 'small')
    assert 'allocator peak' not in study_tables(shards)
    path = shards.branch('new', 'k', 1, 0.5)
    shard = json.loads(path.read_text())
    shard['cost']['peak_bytes'] = 3 * 2**30
    path.write_text(json.dumps(shard))
    table = rows(study_tables(shards))
    assert table['arm'][2][-2] == 'MiB allocator peak'
    assert table['new'][2][-2] == '3,072' and table['mae'][2][-2] == '–'


def test_unfinished_seeds_do_not_count(root):
    shards = Shards(root / 'time_to_target' / 'small')
    shards.branch('new', 'k', 2, 0.5).unlink()
    text = study_tables(shards)
    assert 'Unfinished seeds, not counted: new 2.' in text
    assert rows(text)['new'][0][0] == '2'


def test_two_settings_of_an_arm_are_refused(root):
    shards = Shards(root / 'time_to_target' / 'small')
    path = shards.branch('new', 'k', 2, 0.5)
    path.write_text(path.read_text().replace('"key": "k"', '"key": "other"'))
    with pytest.raises(ValueError, match='new has shards of 2 settings'):
        read_arms(shards)


def test_command(root, tmp_path, monkeypatch):
    """Tables, pictures and the README; a second call changes nothing."""
    readme = tmp_path / 'README.md'
    readme.write_text('a\n{}\nold\n{}\nb\n'.format(*MARKERS))
    monkeypatch.setattr(
        sys, 'argv', ['draw.py', '--root', str(root), '--readme', str(readme)])

    def draw():
        runpy.run_path(str(ROOT / 'tools/benchmarks/draw.py'), run_name='__main__')
        return [path.read_bytes() for path in (
            root / 'RESULTS.md', readme, root / 'plots' / 'small.png')]

    first = draw()
    assert b'| new | 3 | 200 |' in first[0] and b'**open**' in first[0]
    text = first[1].decode()
    assert 'old' not in text and text.startswith('a\n') and text.endswith('\nb\n')
    assert draw() == first


def test_missing_markers():
    with pytest.raises(ValueError, match='README.md lacks the lines'):
        fill_markers('<!-- measured -->', 'x', 'README.md')


@pytest.mark.parametrize('values, state', [
    ([], '**open**'), ([81.0, 80.0], '**gate passed: 80.5 %** (2 seeds)'),
    ([70.0], '**gate missed: 70.0 %**')])
def test_gate(tmp_path, values, state):
    for i, value in enumerate(values):
        write_json(dict(values=dict(trained=dict(linear=value))),
                    tmp_path / 'gate' / f'{i}.json')
    assert state in draw_tables(tmp_path)


def test_every_kind_of_file_is_drawn(tmp_path):
    """In the forms that probe, throughput, consistency and dense_compare write."""
    spread = dict(median=2.0, q1=1.5, q3=2.5)
    parts = dict(encoder=2e6, total=3e6)
    number = dict(value=0.5, low=0.4, high=0.6)
    half = dict(value=0.25, low=0.2, high=0.3)
    contents = dict(
        probes=dict(seed=4, split='final', values=dict(
            untrained=dict(knn=36.2), trained=dict(knn=48.5, linear=57.7))),
        throughput=dict(
            batch_size=8, clock='CPU time', peer='peer', device='cpu',
            machine=dict(cpu='a test', gpus=[]),
            arms=[dict(
                name='step', images_per_second=spread, views_per_second=spread,
                saved_bytes=2**22, parameters=parts, macs=dict(total=5e9),
                ratio_to_peer=dict(step_seconds=spread, saved_bytes=4.0))]),
        inference=dict(
            config='vit', batch_size=8, clock='CPU time', device='cpu',
            image_size=[224, 224], machine=dict(cpu='a test', gpus=[]),
            arms=[dict(
                drop_ratio=.4, drop_indices=[2, 5, 8], metric='redundancy',
                tokens=[196, 117, 70, 42], macs=9.33e9, images_per_second=spread,
                speed_ratio=spread)]),
        drop_accuracy=dict(
            config='vit', checkpoint=dict(hash='1a'), arms=[
                dict(drop_ratio=ratio, metric=metric, drop_indices=[1, 3],
                     tokens=[64, 32, 16], values=values)
                for ratio, metric, values in (
                    (0, 'redundancy', [70.0]), (.5, 'redundancy', [60.0]),
                    (.5, 'random', [50.0, 54.0]))]),
        logs=dict(curves=dict(
            loss=dict(iterations=list(range(9)), values=[i / 8 for i in range(9)]),
            cosine=dict(iterations=[8], values=[.25]))),
        consistency=dict(
            photographs=500, split='final', partitions=8, parts=4,
            # One config, trained twice.
            model=dict(config='a/emae.py', checkpoint=dict(hash='1a'),
                       numbers=dict(mad=half)),
            versus=dict(config='a/emae.py', checkpoint=dict(hash='2b'),
                        numbers=dict(mad=number)),
            paired=dict(mad=dict(ratio=number))),
        cost=dict(
            batch_size=8, images='photographs', clock='CPU time', device='cpu',
            machine=dict(cpu='a test', gpus=[]),
            configs=[dict(
                name='mae', image_size=[64, 64], step_seconds=spread,
                peak=dict(dtype='float32', flops=1e11, bandwidth=4e10),
                stages=dict(stem=dict(
                    forward_seconds=dict(median=.5), backward_seconds=dict(median=.1),
                    macs=5e9, saved_bytes=2**20, floor_seconds=.2)))]),
        data=dict(
            images='photographs', stored_side=500, size=224, batch_size=8,
            machine=dict(cpu='a test'),
            ways=[dict(name='by hand', images_per_second=spread, ratio=spread)]),
        scaling=dict(
            batch=4096, images=10**6,
            assumed=dict(flops=3e14, bandwidth=3e12, node_link=3e11, net_link=2e10,
                         core_images=600.),
            configs=[dict(name='large', runs=[dict(
                gpus=8, strategy='DDP', micro_batch=64, accumulation=8,
                step_seconds=2., waited_seconds=.5, images_per_second=2048.,
                state_bytes=2**30, memory_bytes=2**31, cores_per_gpu=1.2,
                epoch_seconds=480.)])]),
        dense=dict(data='mini', config='c/htc.py', init='pretrained', seed=1,
                   iterations=1200, values={'box AP': 12.34}),
        inits=dict(data='camvid', config='c/upernet.py', init='scratch', seed=1,
                   share=0.1, iterations=326, values=dict(mIoU=20.04)))
    for folder, content in contents.items():
        write_json(content, tmp_path / folder / 'one.json')
    write_json(dict(curves=dict(loss=dict(iterations=[450, 500], values=[2., 1.]))),
                tmp_path / 'logs' / 'short.json')
    table = rows(draw_tables(tmp_path))
    assert table['one'][:2] == [['untrained', '4', 'final', '36.2', '–'],
                            ['trained', '4', 'final', '48.5', '57.7']]
    assert table['step'] == [['2.00 (1.50 to 2.50)', '2.0', '2.0', '4 (4.00)',
                              '3.0', '5.00']]
    assert table['0.4'] == [['196 → 117 → 70 → 42', '9.33', '2.0',
                             '2.00 (1.50 to 2.50)']]
    assert table['0'] == [['64 → 32 → 16', '70.0', '–']]
    assert table['0.5'] == [['64 → 32 → 16', '60.0', '52.0 ± 2.8']]
    assert table['one'][2:] == [
        ['0', '0.000', '–'], ['2', '0.250', '–'], ['4', '0.500', '–'],
        ['6', '0.750', '–'], ['8', '1.000', '0.250']]
    assert table['short'] == [['450', '2.000', '–'], ['500', '1.000', '–']]
    assert table['mad'] == [['0.2500 (0.2000 to 0.3000)',
                             '0.5000 (0.4000 to 0.6000)',
                             '0.5000 (0.4000 to 0.6000)']]
    assert table['stem'] == [['500.0', '100.0', '30.0', '5.00', '1.0', '200.0', '3.00']]
    assert table['by hand'] == [['2 (2 to 2)', '2.00 (1.50 to 2.50)']]
    assert table['large'] == [['8', 'DDP', '64 × 8', '8.00', '2,048', '25', '2.0',
                               '1.0', '1.2']]
    assert table['mini'] == [['htc', 'pretrained', '1,200', '1', '12.3', '–', '–',
                              '–']]
    assert table['scratch'] == [['20.0']]
    assert [path.name for path in draw_plots(tmp_path)] == ['inits.png']


def test_arms_of_several_seeds_are_compared_by_their_probes(tmp_path):
    for arm, values in (('um-mae', (41., 42., 43.)), ('simmim', (40., 40., 40.))):
        for seed, value in enumerate(values):
            write_json(
                dict(seed=seed, split='final', values=dict(
                    untrained=dict(finetune=9.), trained=dict(finetune=value))),
                tmp_path / 'probes' / f'{arm}_swin_seed{seed}.json')
    # Another encoder's, of a single seed: nothing to compare with.
    write_json(dict(seed=0, split='final', values=dict(trained=dict(finetune=1.))),
                tmp_path / 'probes' / 'um-mae_pvt_seed0.json')
    table = rows(draw_tables(tmp_path))
    assert table['um-mae − simmim, swin'] == [[
        'finetune', '3 and 3', '42.0 ± 1.0', '40.0 ± 0.0', '+2.0 (+0.4 to +3.6)']]
    assert not [name for name in table if '−' in name and 'pvt' in name]


def test_summary_by_hand(root):
    """One table of each kind; the newer file of an arm, and machines as columns."""
    def throughput(name, date, step, device='cpu', command='x',
                   names=('emae_vit-base_8xb64', 'mae_vit-base_8xb512')):
        spread = dict(median=step, q1=step, q3=step)
        arm = dict(saved_bytes=1, ratio_to_peer=dict(
            step_seconds=spread, saved_bytes=0.5, peak_bytes=0.25))
        if device != 'cpu':
            arm['peak_bytes'] = 1
        write_json(
            dict(date=date, peer=names[1], device=device, command=command,
                 machine=dict(cpu='a CPU', gpus=['a GPU']),
                 arms=[dict(arm, name=n) for n in names]),
            root / 'throughput' / f'{name}.json')

    throughput('b', '2026-01-01', 9.0)
    throughput('a', '2026-01-02', 3.0)
    throughput('small', '2026-01-01', 4.0, command='x --cfg-options a=1 --json y')
    throughput('longer', '2026-01-01', 5.0, names=('clmae_vit_8xb1_a', 'peer_x_y'))
    throughput('other', '2026-01-01', 6.0, names=('clmae_vit_8xb1_b', 'peer_x_y'))
    throughput('gpu', '2026-01-01', 2.0, device='cuda:0')
    throughput('levers', '2026-01-01', 9.9, command='x --arms levers.py',
               names=('a lever', 'mae_vit-base_8xb512'))
    for init, seed, digits, value, share in (
            ('mine', 0, 'aa', 10.0, 1), ('mine', 1, 'aa', 12.0, 1),
            ('untrained', 0, 'bb', 9.0, 1), ('simmim', 0, 'hh', 40.0, 1),
            ('simmim', 1, 'hh', 40.0, 1), ('mine', 0, 'cc', 5.0, 0.1),
            ('untrained', 0, 'dd', 4.5, 0.1), ('supervised', 0, 'ee', 6.0, 0.1)):
        write_json(
            dict(data='mini', config='c/htc_vit_8xb1.py', init=init, seed=seed,
                 share=share, iterations=1200,
                 values={'box AP': value, 'mask AP': 1.0}),
            root / 'dense' / f'htc_vit_8xb1_{init}_{digits}_seed{seed}.json')
    write_json(  # nothing to compare with: the others have other settings
        dict(data='mini', config='c/htc_vit_8xb1.py', init='mine', seed=0, share=1,
             iterations=1200, values={'box AP': 7.0},
             command='dense_compare.py x --cfg-options a=1 --seeds 0'),
        root / 'dense' / 'htc_vit_8xb1_mine_ff_seed0.json')
    text = draw_summary(root)
    table = rows(text)
    assert '`small`: linear probe 59.0 %, one thread of a test' in text
    assert 'a lever' not in text
    assert '(plots/small.png)' in text
    assert table['small'][0] == ['mae', '3', '100', '60.0 ± 0.1', '87', '1', '0']
    assert table['arm'] == [['peer', 'step time, a CPU', 'memory, a CPU',
                             'step time, a GPU', 'memory, a GPU']]
    assert table['emae_vit-base'] == [
        ['mae_vit-base', '3.00 (3.00 to 3.00)', '0.50', '2.00 (2.00 to 2.00)', '0.25']]
    assert table['emae_vit-base, a=1'][0][1:] == [
        '4.00 (4.00 to 4.00)', '0.50', '–', '–']
    assert [table[f'clmae_vit_8xb1_{n}'][0][:2] for n in 'ab'] == [
        ['peer_x_y', '5.00 (5.00 to 5.00)'], ['peer_x_y', '6.00 (6.00 to 6.00)']]
    assert table['mini'] == [
        ['htc_vit', 'mine', '2', '11.0 ± 1.4', '1.0 ± 0.0',
         'over simmim -29.0 box AP (-33.3 to -24.7)'],
        ['htc_vit', 'simmim', '2', '40.0 ± 0.0', '1.0 ± 0.0', '–']], 'arms of one seed'
    full = rows(dense_table(sorted((root / 'dense').glob('*.json'))))
    name, of_ten = 'htc_vit_8xb1', 'htc_vit_8xb1, 10 % of the labels'
    assert full['mini'] == [
        [name, 'untrained', '1,200', '1', '9.0', '1.0', '–', '–',
         '-31.0 box AP (-31.0 to -31.0, not resolved)'],
        [name, 'mine', '1,200', '2', '11.0 ± 1.4', '1.0 ± 0.0',
         '+2.0 box AP (-20.0 to +24.0, not resolved)', '–',
         '-29.0 box AP (-33.3 to -24.7)'],
        [name, 'simmim', '1,200', '2', '40.0 ± 0.0', '1.0 ± 0.0',
         '+31.0 box AP (+31.0 to +31.0, not resolved)', '–', '–'],
        [of_ten, 'untrained', '1,200', '1', '4.5', '1.0', '–',
         '-1.5 box AP (one seed)', '–'],
        [of_ten, 'mine', '1,200', '1', '5.0', '1.0',
         '+0.5 box AP (one seed)', '-1.0 box AP (one seed)', '–'],
        [of_ten, 'supervised', '1,200', '1', '6.0', '1.0',
         '+1.5 box AP (one seed)', '–', '–'],
        [f'{name}, a=1', 'mine', '1,200', '1', '7.0', '–', '–', '–', '–']]
    write_json(  # a metric of one seed alone
        dict(data='mini', config='c/upernet.py', init='mine', seed=0, share=1,
             iterations=80, values=dict(mIoU=7.0)),
        root / 'dense' / 'upernet_mine_gg_seed0.json')
    assert 'mIoU' not in draw_summary(root)


def test_committed_tables_are_those_of_the_committed_files():
    """Otherwise: python tools/benchmarks/draw.py, and commit what it wrote."""
    root = ROOT / 'benchmarks'
    tables = draw_tables(root)
    assert (root / 'RESULTS.md').read_text().endswith(tables)
    readme = (ROOT / 'README.md').read_text()
    summary = draw_summary(root, plots='benchmarks/plots')
    assert readme == fill_markers(readme, summary, 'README.md')
    assert {path.name for path in (root / 'plots').glob('*.png')} == set(
        re.findall(r'\(plots/(.*?)\)', tables))
