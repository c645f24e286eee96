# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmeffmae.datasets.transforms import UnreadableImage, read_bands
from mmeffmae.datasets.unlabelled import find_images
from mmeffmae.folder import survey as module
from mmeffmae.folder.near_duplicates import difference_hash, near_duplicate_groups
from mmeffmae.folder.survey import survey_folder


def test_odd_files_are_read_or_skipped_with_a_reason(tmp_path, smooth, monkeypatch):
    def save(name: str, picture=None, **options) -> bytes:
        picture = Image.fromarray(smooth()) if picture is None else picture
        picture.save(tmp_path / name, **options)
        return (tmp_path / name).read_bytes()

    whole = save('a.jpg')
    save('cmyk.jpg', Image.fromarray(smooth()).convert('CMYK'))
    save('palette.png', Image.fromarray(smooth()).convert('P'))
    save('alpha.png', Image.fromarray(smooth()).convert('RGBA'))
    save('grey.jpg', Image.fromarray(smooth(bands=1)[..., 0]))
    cv2.imwrite(str(tmp_path / 'sixteen.png'), smooth().astype('u2') * 257)
    frames = [Image.fromarray(smooth()) for _ in range(2)]
    for ending in ('gif', 'webp'):
        save(f'animated.{ending}', frames[0], save_all=True, append_images=frames[1:])
    save('grüße 写真 📷.jpg')
    save('copy.png', Image.open(tmp_path / 'a.jpg').resize((120, 90)))
    (tmp_path / 'zero.jpg').touch()
    (tmp_path / 'cut.jpg').write_bytes(whole[:len(whole) // 2])
    cut = save('cut.png')
    (tmp_path / 'cut.png').write_bytes(cut[:len(cut) // 2])
    monkeypatch.setattr(module, 'MAX_PIXELS', 10_000)
    save('huge.png', Image.new('L', (101, 100)))
    save('icon.png', Image.fromarray(smooth(16, 16)))
    (tmp_path / 'text.jpg').write_text('no image')
    (tmp_path / 'notes.txt').touch()
    (tmp_path / 'line\nbreak.jpg').write_bytes(whole)
    Path(os.fsdecode(os.fsencode(tmp_path) + b'/lat\xe9.jpg')).write_bytes(whole)
    np.save(tmp_path / 'five.npy', np.zeros((40, 40, 5), 'f4'))

    survey = survey_folder(tmp_path)
    # A copy at another size counts as a near-duplicate, and is read as well.
    monkeypatch.setattr(module, 'MAX_PIXELS', 20_000)
    assert survey_folder(tmp_path).num_repeats == 1
    assert survey.names == sorted([
        'a.jpg', 'cmyk.jpg', 'palette.png', 'alpha.png', 'grey.jpg', 'sixteen.png',
        'animated.webp', 'grüße 写真 📷.jpg'])
    skipped = dict(survey.skipped)
    for name, reason in {
            'animated.gif': 'convert it', 'zero.jpg': 'empty', 'cut.jpg': 'truncated',
            'cut.png': 'truncated', 'huge.png': 'too large, 101 x 100',
            'copy.png': 'too large', 'icon.png': 'too small',
            'text.jpg': 'not an image', 'line\\nbreak.jpg': 'line break',
            'lat\\udce9.jpg': 'UTF-8', 'five.npy': '5 bands of float32'}.items():
        assert reason in skipped.pop(name)
    assert not skipped and survey.other_files == {'.txt': 1}
    assert survey.photographs and survey.channels == 3
    notes = survey.notes
    for note in ('CMYK', 'palette', 'alpha', 'animated', 'grey', 'uint16'):
        assert sum(count for text, count in notes.items() if note in text) == 1, note


@pytest.mark.parametrize('meaning', ['unspecified', 'unassalpha'])
@pytest.mark.parametrize('asked, channels', [(None, 3), (4, 4)])
def test_the_fourth_band_of_a_tiff_is_said_and_read_if_asked_for(
        tmp_path, smooth, asked, channels, meaning):
    tifffile = pytest.importorskip('tifffile')
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', smooth(bands=4), photometric='rgb',
                         extrasamples=[meaning])
    survey = survey_folder(tmp_path, asked)
    assert (survey.channels, len(survey.names)) == (channels, 3)
    said = [note for note in survey.notes if '--channels 4 reads it' in note]
    assert len(said) == (asked is None)


def test_five_bands_of_eight_bits_are_five(tmp_path, smooth):
    tifffile = pytest.importorskip('tifffile')
    tifffile.imwrite(tmp_path / 'a.tif', smooth(bands=5), photometric='rgb',
                     extrasamples=['unspecified', 'unspecified'])
    survey = survey_folder(tmp_path)
    assert (survey.names, survey.channels, survey.kind) == (['a.tif'], 5, 'uint8')


def test_grey_with_alpha_is_read_as_colour(tmp_path, smooth):
    Image.fromarray(smooth()).convert('LA').save(tmp_path / 'a.png')
    survey = survey_folder(tmp_path)
    assert (survey.names, survey.channels) == (['a.png'], 3)


def test_what_cannot_be_reached_is_listed(tmp_path, smooth, monkeypatch):
    Image.fromarray(smooth()).save(tmp_path / 'a.png')
    (tmp_path / 'gone.png').symlink_to(tmp_path / 'not-fetched.png')
    (tmp_path / 'closed').mkdir()
    listed = os.scandir

    def scandir(path):
        if str(path).endswith('closed'):
            raise PermissionError(13, 'Permission denied', str(path))
        return listed(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    survey = survey_folder(tmp_path)
    assert survey.names == ['a.png']
    assert dict(survey.skipped) == {
        'gone.png': 'a link to nothing',
        'closed': 'a folder that cannot be read: Permission denied'}


@pytest.mark.parametrize('channels, asked', [(1, None), (1, 1), (3, 3)])
def test_grey_photographs_have_one_band(tmp_path, smooth, channels, asked):
    for i in range(3):
        Image.fromarray(smooth(bands=1)[..., 0]).save(tmp_path / f'{i}.png')
    survey = survey_folder(tmp_path, asked)
    assert (survey.channels, survey.photographs) == (channels, channels == 3)
    assert len(survey.names) == 3 and survey.channels == channels
    assert len(survey.mean) == (0 if survey.photographs else channels)


def test_bands_are_measured_in_their_own_units(tmp_path, smooth):
    tifffile = pytest.importorskip('tifffile')
    values = [smooth(bands=5).astype('u2') * 200 for _ in range(3)]
    np.save(tmp_path / 'a.npy', values[0])
    tifffile.imwrite(
        tmp_path / 'b.tif', values[1], photometric='minisblack',
        planarconfig='contig')
    tifffile.imwrite(  # Band after band.
        tmp_path / 'c.tif', np.moveaxis(values[2], -1, 0), photometric='minisblack')
    Image.fromarray(smooth()).save(tmp_path / 'photograph.jpg')
    survey = survey_folder(tmp_path)
    assert (survey.channels, survey.kind) == (5, 'uint16')
    assert survey.names == ['a.npy', 'b.tif', 'c.tif']
    assert 'the folder has 5 of uint16' in dict(survey.skipped)['photograph.jpg']
    pixels = np.concatenate([value.reshape(-1, 5) for value in values])
    np.testing.assert_allclose(survey.mean, pixels.mean(0), rtol=1e-4)
    np.testing.assert_allclose(survey.std, pixels.std(0), rtol=1e-4)
    for name, value in zip(survey.names, values):
        np.testing.assert_array_equal(read_bands(tmp_path / name), value)


def test_three_bands_are_bgr_like_photographs(tmp_path, smooth):
    tifffile = pytest.importorskip('tifffile')
    rgb = smooth().astype('u2') * 256
    tifffile.imwrite(tmp_path / 'a.tif', rgb, photometric='rgb')
    cv2.imwrite(str(tmp_path / 'b.png'), rgb[..., ::-1])
    for name in ('a.tif', 'b.png'):
        np.testing.assert_array_equal(read_bands(tmp_path / name), rgb[..., ::-1])
    np.save(tmp_path / 'c.npy', np.full((40, 40), np.nan))
    with pytest.raises(UnreadableImage, match='c.npy: values that are not finite'):
        read_bands(tmp_path / 'c.npy')


def test_hashes_a_few_bits_apart_are_one_group():
    # The fifth is close to the second, but not to the first, which stands for it.
    hashes = [0, 0b111, 0b111 << 20, (1 << 64) - 1, 0b1111, 0, 0b111111]
    assert near_duplicate_groups(hashes) == [[0, 1, 2, 5], [4, 6]]
    assert near_duplicate_groups([0, 0b1111]) == []
    ramp = np.arange(90, dtype='u1').reshape(1, 90, 1).repeat(40, 0)
    assert difference_hash(ramp) == (1 << 64) - 1
    assert difference_hash(ramp[:, ::-1]) == 0


def test_the_survey_lists_what_training_reads(photographs):
    """Links in circles end, and hidden thumbnails are no photographs."""
    (photographs / 'again').symlink_to(photographs)
    hidden = photographs / '.thumbnails'
    hidden.mkdir()
    shutil.copy(photographs / '00.jpg', hidden)
    survey = survey_folder(photographs)
    assert survey.names == find_images(str(photographs), 'a test')
    assert len(survey.names) == 40 and not survey.mean


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.*does not exist'):
        survey_folder(tmp_path / 'gone')
    assert survey_folder(tmp_path).names == []
