import gzip
import hashlib
import http.server
import socket
import struct
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from contexts import context
from torchvision.datasets import FashionMNIST

from unclip.config.errors import UserError
from unclip.datasets import fashion_mnist

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def clothes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    return random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.permutation(labels)


@pytest.fixture
def raw_dir(tmp_path) -> Path:
    raw = tmp_path / "FashionMNIST" / "raw"
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, 30), (TEST_IMAGES, TEST_LABELS, 20)):
        pictures, classes = clothes(count, seed=count)
        write_idx(raw / images, pictures)
        write_idx(raw / labels, classes)
    return tmp_path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A mirror on this machine that refuses every connection."""
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])


def load(raw_dir: Path, image_size: int = 32):
    return fashion_mnist.FashionMNIST().load(context(raw_dir, image_size=image_size))


def test_pictures_and_labels_are_those_of_the_files(raw_dir):
    source = load(raw_dir)
    for split, count in ((source.train, 30), (source.test, 20)):
        pictures, labels = clothes(count, seed=count)
        assert split.images.shape == (count, 1, 32, 32)
        assert (split.images[0:count][:, 0, 2:-2, 2:-2] == pictures).all()
        assert split.caption_index.tolist() == labels.tolist()
        assert split.attributes[:, 0].tolist() == labels.tolist()


def test_the_border_is_black_and_even_on_every_side():
    padded = fashion_mnist.fit(np.full((1, 28, 28), 255, dtype=np.uint8), 40)[0, 0]
    assert padded[6:34, 6:34].min() == 255
    assert padded.sum(dtype=int) == 255 * 28 * 28


def test_at_28_pixels_nothing_changes():
    pictures, _ = clothes(5, seed=0)
    assert (fashion_mnist.fit(pictures, 28)[:, 0] == pictures).all()


def test_a_smaller_picture_is_the_mean_of_what_it_covers():
    rows = np.tile(np.array([255, 0, 0, 255], dtype=np.uint8), 7)  # two samples of four see only 0
    small = fashion_mnist.fit(np.broadcast_to(rows[:, None], (1, 28, 28)).copy(), 7)
    assert small.shape == (1, 1, 7, 7)
    assert np.abs(small[0, 0, 1:-1].astype(float) - 127.5).max() < 2


def test_the_ten_captions_are_in_the_order_of_the_labels(raw_dir):
    source = load(raw_dir)
    assert source.captions == [
        "An image of a t-shirt/top",
        "An image of trousers",
        "An image of a pullover",
        "An image of a dress",
        "An image of a coat",
        "An image of a sandal",
        "An image of a shirt",
        "An image of a sneaker",
        "An image of a bag",
        "An image of an ankle boot",
    ]
    for name, caption in zip(FashionMNIST.classes, source.captions, strict=True):
        assert name.lower() in caption
    for value, caption in zip(source.attribute_values[0], source.captions, strict=True):
        assert caption.endswith(value)


def test_each_caption_states_its_own_class(raw_dir):
    source = load(raw_dir)
    assert source.attribute_names == ["class"]
    assert source.caption_attributes.tolist() == [[i] for i in range(10)]


def test_the_decoder_may_not_learn_mirrored_shoes(raw_dir):
    assert load(raw_dir).allow_flip is False


def test_the_judge_learns_from_the_training_split(raw_dir):
    assert load(raw_dir).judge is None


@pytest.mark.parametrize("name", [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
@pytest.mark.parametrize("keep", [0, 3, 15, -1])
def test_a_truncated_file_is_an_error_that_names_its_folder(raw_dir, name, keep):
    path = raw_dir / "FashionMNIST" / "raw" / name
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(raw_dir)


def assert_refused(raw_dir: Path) -> None:
    with pytest.raises(UserError) as error:
        load(raw_dir)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{raw_dir / 'FashionMNIST' / 'raw'}: holds damaged files (")
    assert "delete it" in line


@pytest.mark.parametrize(
    ("name", "array"),
    [
        (TRAIN_IMAGES, np.zeros((30, 14, 14))),
        (TRAIN_IMAGES, np.zeros(30)),
        (TEST_LABELS, np.zeros(19)),
        (TEST_LABELS, np.full(20, 10)),
    ],
    ids=["other size", "labels for pictures", "a label short", "an eleventh class"],
)
def test_wrong_contents_are_an_error_that_names_the_folder(raw_dir, name, array):
    write_idx(raw_dir / "FashionMNIST" / "raw" / name, array)
    assert_refused(raw_dir)


def test_the_status_is_that_of_the_files_which_are_opened(raw_dir):
    raw = raw_dir / "FashionMNIST" / "raw"
    status = partial(fashion_mnist.FashionMNIST().status, raw_dir, raw_dir)
    assert status() == f"{raw} is there"
    (raw / TEST_IMAGES).write_bytes(b"")
    with pytest.raises(UserError, match="holds damaged files"):
        status()
    (raw / TEST_IMAGES).unlink()
    assert "is not there yet" in status()


def test_without_files_and_network_one_line_says_where_it_looked_and_what_to_do(tmp_path):
    with pytest.raises(UserError) as error:
        load(tmp_path / "nothing")
    message = str(error.value)
    assert str(tmp_path / "nothing" / "FashionMNIST" / "raw") in message
    assert "UNCLIP_DATA_DIR" in message
    assert "\n" not in message


def test_one_missing_file_is_downloaded_too(raw_dir):
    (raw_dir / "FashionMNIST" / "raw" / TEST_LABELS).unlink()
    with pytest.raises(UserError, match="downloading Fashion-MNIST failed"):
        load(raw_dir)


def test_a_mirror_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(FashionMNIST, "mirrors", [url])
        start = time.monotonic()
        with pytest.raises(UserError, match="UNCLIP_DATA_DIR"):
            load(tmp_path)
        assert time.monotonic() - start < 3


def test_a_download_that_stalls_is_given_up(tmp_path, monkeypatch):
    release = threading.Event()

    class Stalling(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            release.wait(4)

        def log_message(self, *args) -> None: ...

    monkeypatch.setattr(fashion_mnist, "TIMEOUT", 0.3)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        start = time.monotonic()
        with pytest.raises(UserError, match="timed out"):
            load(tmp_path)
        elapsed = time.monotonic() - start
        release.set()
        server.shutdown()
    assert elapsed < 3


def pack(raw_dir: Path, monkeypatch) -> None:
    """Turns the raw files into .gz archives that torchvision takes for the real ones."""
    resources = []
    for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS):
        path = raw_dir / "FashionMNIST" / "raw" / name
        archive = gzip.compress(path.read_bytes())
        path.with_name(name + ".gz").write_bytes(archive)
        path.unlink()
        resources.append((name + ".gz", hashlib.md5(archive).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)


def test_archives_that_lie_there_are_unpacked_without_a_network(raw_dir, monkeypatch):
    pack(raw_dir, monkeypatch)
    assert load(raw_dir).train.caption_index.tolist() == clothes(30, seed=30)[1].tolist()


def test_missing_files_are_downloaded(raw_dir, tmp_path_factory, monkeypatch):
    pack(raw_dir, monkeypatch)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args) -> None:
            super().__init__(*args, directory=str(raw_dir / "FashionMNIST" / "raw"))

        def log_message(self, *args) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        source = load(tmp_path_factory.mktemp("fresh") / "raw-data")
        server.shutdown()
    assert source.test.caption_index.tolist() == clothes(20, seed=20)[1].tolist()
    assert socket.getdefaulttimeout() is None
