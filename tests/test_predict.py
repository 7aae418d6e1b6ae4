"""Part 2's predictions for pictures of one's own: every kind of picture, and what is refused."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from data.cifar10 import CLASS_NAMES
from part2_cnn import predict, train
from part2_cnn.model import CNN
from part2_cnn.predict import open_picture, square_pixels, to_rgb
from training.plotting import COLOURS, style
from training.runs import FIGURES, HISTORY_COLUMNS, RESULT, RESULT_KEYS, RunFolder

COLOUR = (200, 100, 50)
GREY = 124  # of that colour, by Pillow's luma


@pytest.fixture
def net_run(tmp_path) -> Path:
    """The folder of a run whose net is as initialised."""
    folder = RunFolder(tmp_path / "run")
    folder.open(resume=False, overwrite=False)
    folder.write_config({"script": train.SCRIPT, **vars(train.parse([]))})
    folder.write_history([dict.fromkeys(HISTORY_COLUMNS, 0)])
    folder.write_result(dict.fromkeys(RESULT_KEYS, 0) | {"stopped_by": "max_epochs"})
    folder.close()
    torch.manual_seed(0)
    torch.save({"best": CNN(3, 10).state_dict()}, folder.path / "checkpoint.pt")
    assert (folder.path / RESULT).exists()
    return folder.path


def picture(folder: Path, name: str, size=(80, 50)) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_predict_prints_and_draws_probabilities(run_main, net_run, tmp_path):
    pictures = [picture(tmp_path, "a.jpg"), picture(tmp_path, r"$\frac$.png", (31, 200))]
    out = tmp_path / "out"
    flags = ("--run", net_run, "--out", out, "--top", 10, *pictures)
    code, stdout, err = run_main(predict.main, "predict.py", *flags)
    assert (code, err) == (0, "")
    lines = stdout.splitlines()
    assert len(lines) == 4  # two pictures, two files
    for line, path in zip(lines, pictures, strict=False):
        name, _, answer = line.partition(": ")
        assert name == str(path)
        shares = {part.rpartition(" ")[0]: part.rpartition(" ")[2] for part in answer.split(", ")}
        assert shares.keys() == set(CLASS_NAMES)
        percents = [float(share.rstrip("%")) for share in shares.values()]
        assert percents == sorted(percents, reverse=True)
        assert sum(percents) == pytest.approx(100, abs=1)
    assert {file.name for file in out.iterdir()} == {"predictions.png", "predictions.pdf"}
    assert "predictions" in FIGURES  # which --overwrite removes


def test_figure_names_picture_class_and_probability():
    probabilities = np.full((1, 10), 0.05)
    probabilities[0, 3] = 0.55
    pixels = np.zeros((3, 8, 8), np.uint8)
    with style():
        left, right = predict.draw_predictions(["cat.png"], [pixels], probabilities).axes
    assert (left.get_title(), right.get_title()) == ("cat.png", "cat 55%")
    assert [bar.get_width() for bar in right.patches] == probabilities[0].tolist()
    assert [label.get_text() for label in right.get_yticklabels()] == list(CLASS_NAMES)
    colours = [to_hex(bar.get_facecolor()) for bar in right.patches]
    assert colours == [COLOURS[1 if i == 3 else 0].lower() for i in range(10)]
    assert right.get_xlim() == (0, 1)
    lines = (right.get_xgridlines()[0], right.get_ygridlines()[0])
    assert [line.get_visible() for line in lines] == [True, False]


# --- Kinds of pictures ----------------------------------------------------------------------------


def in_mode(mode: str) -> tuple[Image.Image, tuple[int, int, int]]:
    """A picture of one colour in that mode, and the RGB colour that it has."""
    if mode[0] in "IF":
        half = Image.fromarray(np.full((8, 8), 0.5, np.float32))
        return half if mode == "F" else Image.new(mode, (8, 8), 2**15), (128, 128, 128)
    plain = Image.new("RGB", (8, 8), COLOUR)
    if mode == "1":
        return plain.convert("L").point(lambda _: 255).convert("1"), (255, 255, 255)
    by_way_of = {"PA": "P", "LA": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    converted = plain.convert("L") if by_way_of == "LA" else plain
    colour = (GREY,) * 3 if mode in ("L", "LA", "La") else COLOUR
    return converted.convert(by_way_of).convert(mode), colour


@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_of_pillow_is_right_or_refused(mode):
    image, colour = in_mode(mode)
    assert image.mode == mode
    if mode == "La":  # no file has it
        with pytest.raises(ValueError, match="conversion from La"):
            to_rgb(image)
        return
    converted = to_rgb(image)
    assert (converted.mode, converted.size) == ("RGB", (8, 8))
    # The palette's colours are 51 apart, and other colour spaces round.
    np.testing.assert_allclose(converted.getpixel((3, 3)), colour, atol=4)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("I;16", "png"), ("I;16", "tif"), ("I;16B", "tif"), ("I", "tif"), ("F", "tif"),
     ("CMYK", "jpg"), ("LAB", "tif"), ("YCbCr", "jpg"), ("PA", "tif"), ("LA", "png"),
     ("P", "gif"), ("1", "png"), ("RGBA", "webp"), ("RGB", "bmp")],
)  # fmt: skip
def test_files_of_every_mode_are_read(mode, ending, tmp_path):
    image, colour = in_mode(mode)
    image.save(tmp_path / f"a.{ending}")
    opened = open_picture(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(opened.getpixel((3, 3)), colour, atol=4)
    pixels = square_pixels(opened, 32)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), np.uint8)


@pytest.mark.parametrize(
    ("mode", "white"), [("F", 1), ("F", 255), ("F", 65535), ("I", 255), ("I", 65535),
                        ("I", 2**31 - 1), ("I;16", 65535)],
)  # fmt: skip
def test_grey_values_are_scaled_by_what_white_is(mode, white):
    dtype = {"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode]
    values = np.array([[0, white / 4, white / 2, white]] * 2).astype(dtype)
    if mode != "I;16":
        values[0, 0] = -1  # below black
    image = Image.fromarray(values)
    assert image.mode == mode
    greys = np.asarray(to_rgb(image))[..., 0]
    np.testing.assert_allclose(greys, [[0, 64, 128, 255]] * 2, atol=1)


def test_integers_above_65535_are_a_share_of_the_largest_integer():
    assert to_rgb(Image.new("I", (1, 1), 65536)).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 65536, 1e5])
def test_grey_values_out_of_range_are_refused(value):
    values = np.zeros((2, 2), np.float32)
    values[0, 0] = value
    with pytest.raises(ValueError, match="grey values"):
        to_rgb(Image.fromarray(values))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (3, 2000), (32, 32), (33, 32)])
def test_pictures_of_every_size_are_read(size, tmp_path):
    pixels = square_pixels(open_picture(picture(tmp_path, "a.png", size)), 32)
    assert pixels.shape == (3, 32, 32)


def test_picture_is_upright_on_white_ground_and_cut_in_the_middle(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40, 0] = 255  # the central square is red
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = square_pixels(open_picture(tmp_path / "wide.png"), 32)
    assert (pixels[0, :, 1:-1] > 250).all()
    assert (pixels[1:] == 0).all()
    wide[:, :10, 2] = 255  # blue at the left, which is the top of the upright picture
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(wide).save(tmp_path / "turned.jpg", exif=exif)
    turned = np.asarray(open_picture(tmp_path / "turned.jpg"))
    assert turned.shape == (60, 20, 3)
    assert turned[:8, :, 2].min() > 150 > turned[14:, :, 2].max()
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 51))  # a fifth of black
    half.save(tmp_path / "clear.png")
    np.testing.assert_allclose(open_picture(tmp_path / "clear.png").getpixel((0, 0)), 204, atol=1)


def test_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp", "a.tif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        colour = open_picture(tmp_path / name).getpixel((4, 4))
        np.testing.assert_allclose(colour, (255, 0, 0), atol=3)


# --- What is refused ------------------------------------------------------------------------------


def test_what_is_no_picture_is_refused(run_main, net_run, tmp_path, monkeypatch):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    whole = picture(tmp_path, "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    Image.fromarray(np.full((4, 4), -np.inf, np.float32)).save(tmp_path / "inf.tif")
    os.mkfifo(tmp_path / "pipe.png")
    unreadable = "not a readable image"

    def check(name: str, words: str) -> None:
        flags = ("--run", net_run, tmp_path / name)
        code, out, err = run_main(predict.main, "predict.py", *flags)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1, err
        assert f"{tmp_path / name}: {words}"[:150] in err

    for name, words in (
        ("text.jpg", unreadable),
        ("empty.png", unreadable),
        ("cut.png", unreadable),
        ("nan.tif", f"{unreadable} (grey values above 65535, or not finite)"),
        ("inf.tif", f"{unreadable} (grey values above 65535, or not finite)"),
        ("absent.png", "does not exist"),
        ("run", "is not a regular file"),
        ("pipe.png", "is not a regular file"),
    ):
        check(name, words)
    for limit in (3000, 1000):  # Pillow warns above the limit and refuses above its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        check("whole.png", f"{unreadable} (Image size (4000 pixels)")
    assert not list(net_run.glob("predictions.*"))


def test_flags_that_are_refused(run_main, net_run, tmp_path):
    shot = picture(tmp_path, "a.png")
    for flags, words in (
        (("--top", 11), "--top"),
        (("--top", 0), "--top"),
        (("--out", shot), "--out"),
        (("--run", tmp_path), "config.json"),
    ):
        flags = ("--run", net_run, shot, *flags)
        code, _, err = run_main(predict.main, "predict.py", *flags)
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
    code, _, err = run_main(predict.main, "predict.py", "--run", net_run)
    assert (code, err.count("\n")) == (2, 1)


def test_name_that_is_no_text_is_printed(run_main, net_run, tmp_path):
    shot = picture(tmp_path, "a.png")
    name = os.fsdecode(os.fsencode(tmp_path / "b") + b"\xff.png")
    try:
        shutil.copy(shot, name)
    except OSError:
        pytest.skip("this file system has names of text alone")
    code, out, err = run_main(predict.main, "predict.py", "--run", net_run, name)
    assert (code, err) == (0, "")
    assert "b\N{REPLACEMENT CHARACTER}.png: " in out


def test_oddities_of_a_file_are_not_told(tmp_path):
    cut_off = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x0f\0\x02\0\0\0\x10"
    Image.new("RGB", (8, 8), "red").save(tmp_path / "odd.jpg", exif=cut_off)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert open_picture(tmp_path / "odd.jpg").size == (8, 8)
    assert not told
