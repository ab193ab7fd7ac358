"""Draw when TAG's b matters: average accuracy against b, from the record of a search on validation data.

    tag-pipeline tune tag --benchmark rotated-digits b=0,1,2.5,5,7,10 lr=0.00025,0.0005,0.001,0.002,0.004 \
        --seeds 101,102,103,104,105 --record tag-b
    python -m bench.sweep_b
"""

from __future__ import annotations

import pandas as pd

from pipeline.figures.style import COLUMN, common_look, line_with_band, new_figure, shades

RECORD = "results/tuning/rotated-digits/tag-b.csv"
PICTURE = "docs/images/tag_b.png"


def main() -> None:
    """One line a learning rate."""
    table = pd.read_csv(RECORD).assign(percent=lambda rows: 100 * rows["average_accuracy"])
    rates = sorted(table["lr"].unique())
    with common_look():
        figure, grid = new_figure(COLUMN, 2.7)
        for rate, shade in zip(rates, shades(len(rates)), strict=True):
            line_with_band(grid[0, 0], table[table["lr"] == rate], "b", "percent", f"{rate:g}", color=shade, marker=".")
        grid[0, 0].set_xlabel("b")
        grid[0, 0].set_ylabel("average accuracy on\nheld-out training images (%)")
        figure.legend(loc="outside upper center", ncols=3, title="learning rate", title_fontsize=7)
        figure.savefig(PICTURE, dpi=150)
    print(table.groupby(["b", "lr"])[["average_accuracy", "forgetting"]].mean().unstack().round(3).to_string())


if __name__ == "__main__":
    main()
