"""Geometric means, lowest points, the table, and the picture."""

import math

import pytest

from fastrnn.bench import Case, Comparison, Shape, Sides, Turns, plot, summarise, summary

FACTS = {"cpu": "A CPU", "isa": "avx2", "versions": {"fastrnn": "1.0"}}


def point(cell, shape, seconds, mode="train", threads=1):
    return Comparison(Case(cell, shape, mode), threads, Sides({}), Turns({k: [v] for k, v in seconds.items()}, 1e9))


SMALL, LARGE = Shape(1, 1, 2, 3), Shape(100, 2, 2, 3)
POINTS = [
    point("lstm", SMALL, {"fastrnn": 1.0, "torch": 2.0, "jax": 3.0}),
    point("lstm", LARGE, {"fastrnn": 1.0, "torch": 8.0, "jax": 0.75}),
    point("gru", SMALL, {"fastrnn": 2.0, "numpy": 1.0}, threads=2),
    point("gru", LARGE, {"torch": 2.0}),
]


def test_summaries():
    found = {(s.cell, s.threads, s.against): s for s in summarise(POINTS)}
    assert set(found) == {
        ("lstm", 1, "torch"),
        ("lstm", 1, "jax"),
        ("lstm", 1, "best of all"),
        ("gru", 2, "numpy"),
        ("gru", 2, "best of all"),
    }
    assert found["lstm", 1, "torch"].mean == pytest.approx(4)
    assert found["lstm", 1, "torch"].lowest == 2
    best = found["lstm", 1, "best of all"]
    assert (best.mean, best.lowest, best.lowest_at) == (pytest.approx(math.sqrt(1.5)), 0.75, str(LARGE))
    assert best.as_dict()["points"] == 2
    rows = summary.rows(summarise(POINTS))
    assert rows[1] == ["lstm train", "1", "torch", "2", "4.00", "2.00", str(SMALL)]


def test_without_peers_there_is_nothing_to_sum_up():
    assert summarise([point("lstm", SMALL, {"fastrnn": 1.0})]) == []
    assert summary.ratios(point("lstm", SMALL, {"torch": 1.0})) == {}


@pytest.mark.parametrize("points", [POINTS[:1], POINTS[:2], POINTS, []], ids=["one", "two", "all", "none"])
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_picture(tmp_path, points, kind):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"picture.{kind}"
    plot.save(points, FACTS, file)
    assert file.stat().st_size > 5000
    texts = [text.get_text() for text in plot.draw(points, FACTS).texts]
    assert any("A CPU" in text for text in texts)
    assert ("than PyTorch" in texts) == bool(points)


def test_picture_has_every_ratio(tmp_path):
    pytest.importorskip("matplotlib")
    figure = plot.draw(POINTS[:2], FACTS)
    (panel,) = figure.axes
    marks = sorted(float(line.get_xdata()[0]) for line in panel.lines if line.get_marker() in "oD")
    assert marks == [0.75, 2.0, 3.0, 8.0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["T 1  B 1  2→3", "T 100  B 2  2→3"]


def test_pictures_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"--plot: expected a name that ends in .png, .svg, .pdf, got 'a.jpg'"):
        plot.check("a.jpg")
    with pytest.raises(ValueError, match="no such folder"):
        plot.check(tmp_path / "none" / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"a plot needs matplotlib: pip install 'fastrnn\[cli\]'"):
        plot.check(tmp_path / "a.png")
