"""The data sets that `data.dataset` can name."""

from unclip.datasets.base import Dataset
from unclip.datasets.fashion_mnist import FashionMNIST
from unclip.datasets.image_folder import ImageFolder
from unclip.datasets.shapes import Shapes

DATASETS: dict[str, type[Dataset]] = {
    "shapes": Shapes,
    "fashion_mnist": FashionMNIST,
    "image_folder": ImageFolder,
}
