# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Measure training steps of configs against each other or against mmpretrain.

    throughput.py CONFIG [CONFIG ...] --versus mmpretrain-mae --json FILE
    throughput.py --arms benchmarks/arms/levers.py --json FILE
    throughput.py CONFIG --drop-ratios 0 0.1 0.2 0.3 0.4 --json FILE

The second form takes variants of configs from a file. The third times whole
images through the encoder of one config instead, which drops these shares of
its tokens. All print a table and write JSON. All
arms run in turns in one process; on the CPU with one thread and on the clock of
CPU time.
"""
import argparse
import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.building import build_model
from mmeffmae.evaluation.inference import build_ratio_arms, time_ratios
from mmeffmae.evaluation.peers import PEERS
from mmeffmae.evaluation.record import provenance, write_json
from mmeffmae.evaluation.throughput import build_arm, summarise, time_arms


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG')
    parser.add_argument(
        '--arms', metavar='FILE',
        help='variants: each a config, options merged into it, and maybe like, '
        'the peer that takes its place; the file names the peer of the ratios')
    parser.add_argument(
        '--leave-out', nargs='+', default=[], metavar='ARM', help='of the file')
    parser.add_argument(
        '--versus',
        metavar='PEER',
        help=f'{", ".join(PEERS)} (in the sizes of the first config), or a '
        'config; by default the first config')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch-size', type=int, default=8, metavar='N')
    parser.add_argument(
        '--rounds', type=int, default=10, help='turns of every arm')
    parser.add_argument('--steps', type=int, default=2, help='steps of a turn')
    parser.add_argument(
        '--warmup', type=int, default=2, help='untimed steps of every arm')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='bfloat16 on the CPU too; GPUs do as the configs say')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change settings of all configs')
    parser.add_argument(
        '--drop-ratios',
        nargs='+',
        type=float,
        metavar='RATIO',
        help='time inference at these drop ratios; speeds are ratios to the first')
    parser.add_argument('--json', metavar='FILE', help='where to write')
    args = parser.parse_args(argv)
    if bool(args.configs) == bool(args.arms):
        parser.error('give configs or --arms')
    if args.arms and (args.versus or args.drop_ratios):
        parser.error('--arms takes no --versus and no --drop-ratios')
    if args.drop_ratios and (len(args.configs) > 1 or args.versus):
        parser.error('--drop-ratios takes one config and no --versus')
    for name in ('batch_size', 'rounds', 'steps', 'warmup'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def read_config(path: str | Path, options: dict | None) -> Config:
    config = Config.fromfile(path)
    if options:
        config.merge_from_dict(options)
    return config


def peer_config(kind: str, config: Config) -> tuple[Config, str]:
    """The config with the model of a peer in its sizes, and a note."""
    settings, note = PEERS[kind](config, build_model(config))
    settings['data_preprocessor'] = dict(type='mmpretrain.SelfSupDataPreprocessor')
    peer = Config(dict(config.to_dict(), model=settings))
    peer.pop('data_preprocessor', None)
    return peer, note


def arms_of_file(
    path: str, options: dict | None, leave_out: list[str]
) -> tuple[dict, str, dict]:
    """As :func:`arms_of`, from an arms file."""
    file = Config.fromfile(path)
    if wrong := {file.peer, *leave_out} - {*file.arms} | {file.peer} & {*leave_out}:
        sys.exit(f'error: {path}: {", ".join(sorted(wrong))} is no arm, or is the peer '
                 f'that is left out: there are {", ".join(file.arms)}')
    configs, notes = {}, {}
    for name in (name for name in file.arms if name not in leave_out):
        arm = file.arms[name]
        config = read_config(Path(path).parent / arm.config, arm.get('options'))
        config.merge_from_dict(options or {})
        if 'like' in arm:
            config, notes[name] = peer_config(arm.like, config)
        configs[name] = config
    return configs, file.peer, notes


def arms_of(args: argparse.Namespace) -> tuple[dict, str, dict]:
    """Configs by name, the name of the peer, and notes by name."""
    if args.arms:
        return arms_of_file(args.arms, args.cfg_options, args.leave_out)
    configs = {
        Path(path).stem: read_config(path, args.cfg_options)
        for path in args.configs
    }
    notes = {}
    peer = next(iter(configs))
    if args.versus in PEERS:
        configs[args.versus], notes[args.versus] = peer_config(
            args.versus, configs[peer])
        peer = args.versus
    elif args.versus:
        peer = Path(args.versus).stem
        configs.setdefault(peer, read_config(args.versus, args.cfg_options))
    return configs, peer, notes


def times_table(results: list[dict]) -> str:
    """Times and memory, with their ratios to the peer."""
    memory = 'peak_bytes' if 'peak_bytes' in results[0] else 'saved_bytes'
    width = max(len(result['name']) for result in results)
    lines = [
        f'{"":<{width}}  {"ms a step (quartiles)":>26} {"ratio (quartiles)":>20} '
        f'{"images/s":>9} {"views/s":>9} {memory[:-6] + " MiB":>10} {"ratio":>6}'
    ]
    for result in results:
        step, ratio = result['step_seconds'], result['ratio_to_peer']
        times = (f'{1e3 * step["median"]:.1f} '
                 f'({1e3 * step["q1"]:.1f}..{1e3 * step["q3"]:.1f})')
        slower = ratio['step_seconds']
        lines.append(
            f'{result["name"]:<{width}}  {times:>26} '
            f'{slower["median"]:>7.3f} ({slower["q1"]:.2f}..{slower["q3"]:.2f}) '
            f'{result["images_per_second"]["median"]:>9.2f} '
            f'{result["views_per_second"]["median"]:>9.2f} '
            f'{result[memory] / 2**20:>10.1f} {ratio[memory]:>6.3f}')
    return '\n'.join(lines)


def counts_table(results: list[dict]) -> str:
    """Parameters and multiply-adds an image of every part, with ratios."""
    width = max(len(result['name']) for result in results)
    lines = [f'{"":<{width}}  {"part":<8} {"M params":>9} {"ratio":>6} '
             f'{"GMACs":>8} {"ratio":>6}']
    for result in results:
        ratio = result['ratio_to_peer']
        for part, macs in result['macs'].items():
            of_peer = [f'{ratio[key][part]:6.3f}' if part in ratio[key] else ' ' * 6
                       for key in ('parameters', 'macs')]
            lines.append(
                f'{result["name"]:<{width}}  {part:<8} '
                f'{result["parameters"][part] / 1e6:>9.2f} {of_peer[0]} '
                f'{macs / 1e9:>8.3f} {of_peer[1]}')
    return '\n'.join(lines)


def ratios_table(results: list[dict]) -> str:
    """Tokens, multiply-adds and speed at every drop ratio."""
    lines = [f'{"drop":<6} {"tokens":<20} {"GMACs":>8} {"ratio":>6} '
             f'{"images/s":>9} {"speed (quartiles)":>20}']
    for result in results:
        speed = result['speed_ratio']
        lines.append(
            f'{result["drop_ratio"]:<6g} {" ".join(map(str, result["tokens"])):<20} '
            f'{result["macs"] / 1e9:>8.3f} {result["macs"] / results[0]["macs"]:>6.3f} '
            f'{result["images_per_second"]["median"]:>9.2f} '
            f'{speed["median"]:>7.3f} ({speed["q1"]:.2f}..{speed["q3"]:.2f})')
    return '\n'.join(lines)


def measure_inference(args: argparse.Namespace, device: torch.device) -> None:
    """Whole images at several drop ratios."""
    config = read_config(args.configs[0], args.cfg_options)
    load = [os.getloadavg()[0]]
    arms = build_ratio_arms(
        config, args.drop_ratios, args.batch_size, device, args.amp)
    for arm in arms * args.warmup:
        arm.step()
    results = time_ratios(arms, args.rounds, args.steps, device)
    load.append(os.getloadavg()[0])
    print(ratios_table(results))
    print(f'\ntokens dropped after layers {results[0]["drop_indices"]} by '
          f'{results[0]["metric"]}; load of the machine: {load[0]:.1f} at first, '
          f'{load[1]:.1f} at last')
    if args.json:
        record = dict(
            kind='inference',
            config=Path(args.configs[0]).stem,
            config_hash=config_hash(config),
            image_size=list(arms[0].images.shape[-2:]))
        write(args, device, load, dict(record, arms=results))


def write(
    args: argparse.Namespace, device: torch.device, load: list[float], results: dict
) -> None:
    """The results with how and where they were measured, as JSON."""
    write_json(
        dict(
            results,
            batch_size=args.batch_size,
            rounds=args.rounds,
            steps=args.steps,
            amp=args.amp,
            clock='CPU time of one thread' if device.type == 'cpu' else
            'wall clock, synchronised',
            load=load,
            **provenance(device)), args.json)
    print(f'written: {args.json}')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    # mmengine prints a line for every parameter.
    MMLogger.get_instance('throughput').setLevel('ERROR')
    device = torch.device(args.device)
    if device.type == 'cpu':
        torch.set_num_threads(1)
    if args.drop_ratios:
        measure_inference(args, device)
    else:
        measure_training(args, device)


def measure_training(args: argparse.Namespace, device: torch.device) -> None:
    """Training steps of all arms."""
    configs, peer, notes = arms_of(args)
    load = [os.getloadavg()[0]]
    arms = [
        build_arm(name, config, args.batch_size, device, args.amp, args.warmup)
        for name, config in configs.items()
    ]
    seconds = time_arms(arms, args.rounds, args.steps, device)
    load.append(os.getloadavg()[0])
    results = summarise(arms, seconds, list(configs).index(peer))
    for result, config in zip(results, configs.values()):
        result['config_hash'] = config_hash(config)
        if result['name'] in notes:
            result['note'] = notes[result['name']]
            print(f'{result["name"]}: {notes[result["name"]]}')
    print(times_table(results), counts_table(results), sep='\n\n')
    print(f'\nratios to {peer}; load of the machine: {load[0]:.1f} at first, '
          f'{load[1]:.1f} at last')
    if args.json:
        write(args, device, load, dict(kind='throughput', peer=peer, arms=results))


if __name__ == '__main__':
    main()
