"""History: curves of bounded size, files, plots."""

import json
import math
import sys

import pytest

import fastrnn as fr


def filled(count, bad=()):
    history = fr.History()
    for step in range(1, count + 1):
        loss = math.nan if step in bad else 4.0 / step
        history.add_step(step, loss=loss, lr=0.1, grad_norm=1.0, seconds=0.5 * step)
    history.epochs.append({"epoch": 1, "step": count, "loss": 1.0, "seconds": 2.0})
    history.validations.append({"epoch": 1, "step": count, "loss": 0.5, "seconds": 2.0})
    return history


def test_a_long_curve_is_merged():
    history = filled(10_000)
    steps = history.steps
    assert len(steps["step"]) == 2500
    assert steps["step"][:2] == [4, 8]
    assert steps["step"][-1] == 10_000
    assert steps["loss"][0] == pytest.approx(sum(4.0 / i for i in (1, 2, 3, 4)) / 4)
    assert steps["seconds"][-1] == 5000.0


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 9999])
def test_state_and_file_come_back(count, tmp_path):
    history, again = filled(count), fr.History()
    again.load_state_dict(history.state_dict())
    assert again.steps == history.steps
    history.save(tmp_path / "h.json")
    loaded = fr.History.load(tmp_path / "h.json")
    assert loaded.steps["loss"] == pytest.approx(history.steps["loss"])
    assert loaded.epochs == history.epochs
    assert loaded.validations == history.validations
    for more in (again, loaded):
        more.add_step(count + 1, loss=1.0, lr=0.1, grad_norm=1.0, seconds=9.0)
        assert more.steps["step"][-1] == count + 1


def test_numbers_that_strict_json_has_not(tmp_path):
    history = filled(5, bad=(2,))
    history.save(tmp_path / "h.json")
    data = json.loads((tmp_path / "h.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert data["steps"]["loss"][1] is None
    assert math.isnan(fr.History.load(tmp_path / "h.json").steps["loss"][1])


def test_not_a_history(tmp_path):
    for text, message in (("{", "not JSON"), ("[]", "not a history"), ("{}", "not a history")):
        (tmp_path / "h.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            fr.History.load(tmp_path / "h.json")


@pytest.mark.parametrize("count", [0, 1, 50, 3000])
def test_plot(count, tmp_path):
    pytest.importorskip("matplotlib")
    figure = filled(count, bad=(7,)).plot(tmp_path / "loss.png", label="bits", scale=2.0)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert figure.axes[0].get_ylabel() == "bits"
    assert figure.axes[0].get_lines()[-1].get_ydata()[0] == 1.0


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastrnn\[cli\]'"):
        filled(3).plot()


def test_repr():
    assert repr(filled(3)) == "History(3 steps, 1 epochs, loss 1.333, validation loss 0.5)"


@pytest.mark.parametrize("name", ["epochs", "validations", "notes", "steps", "steps_per_point"])
@pytest.mark.parametrize("value", ["missing", 3.5, "text", None])
def test_a_partial_file_is_no_history(name, value, tmp_path):
    path = tmp_path / "history.json"
    fr.History().save(path)
    data = json.loads(path.read_text())
    if name == "steps_per_point" and value == 3.5:
        return
    if value == "missing":
        del data[name]
    else:
        data[name] = value
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"history\.json: not a whole history"):
        fr.History.load(path)
