"""A data set: one folder of images a class, the last of each to test on."""

from __future__ import annotations

import pandas as pd

from crumb.data.index import COLUMNS
from crumb.data.sets.base import Sample, Source


class MiniSet(Source):
    """Folders of images, one a class."""

    name = "mini_set"

    def sample(self) -> Sample:
        """The images of each folder are a clip of one object."""
        rows, names = [], {}
        for number, folder in enumerate(sorted(self.root.iterdir())):
            names[number] = folder.name
            for place, path in enumerate(sorted(folder.iterdir())):
                rows.append((number, 0, place % 2, place, str(path.relative_to(self.root))))
        return Sample(self.root, pd.DataFrame(rows, columns=list(COLUMNS)), names, (1,))
