from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.config.networks import Resnet
from pipeline.datasets import local, weights
from pipeline.models import TaskTensors, build_model
from pipeline.support.errors import UserError
from pipeline.training.evaluation import evaluate

MODEL = Resnet(name="resnet18", outputs="task", pixels="imagenet", weights="imagenet")


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, data: bytes) -> None:
    """`data` as the published file, in the folder of TAG_DATASETS."""
    (folder / "resnet18-f37072fd.pth").write_bytes(data)
    monkeypatch.setenv(local.VARIABLE, str(folder))
    checksum = "sha256:" + hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(weights, "RESNET18", replace(weights.RESNET18, checksum=checksum))


def test_random_weights_need_no_file(tmp_path: Path) -> None:
    weights.write_weights(tmp_path, "random")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_published_checkpoint_becomes_the_start_of_all_but_the_last_layer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision.models import resnet18  # imported here because it takes seconds

    published = resnet18(weights=None)
    published.bn1.running_mean.fill_(0.25)
    torch.save(published.state_dict(), tmp_path / "made.pth")
    publish(monkeypatch, tmp_path, (tmp_path / "made.pth").read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    weights.write_weights(out, "imagenet")
    assert json.loads((out / "manifest.json").read_text())["source"] == weights.RESNET18.checksum
    model = build_model(MODEL, (32, 32, 3), [[0, 1], [2, 3]], dropout=0.5, weights=out / weights.FILE)
    state = model.network.state_dict()
    assert state["fc.weight"].shape == (4, 512)
    for name, value in published.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(state[name], value), name
    again = build_model(MODEL, (32, 32, 3), [[0, 1], [2, 3]])  # as the eigenspectrum stage builds it
    again.load_state_dict(model.state_dict())
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model.eval()(images, 1), again.eval()(images, 1))


def test_dropout_before_the_last_layer_can_stay_on_at_test() -> None:
    model = build_model(MODEL, (32, 32, 3), [[0, 1], [2, 3]], dropout=0.5)
    task = TaskTensors(0, torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    assert len({evaluate(model, task, dropout=True)[1] for _ in range(3)}) == 3
    assert len({evaluate(model, task)[1] for _ in range(3)}) == 1
    assert {"fc.weight", "fc.bias"} < set(model.network.state_dict())


def test_another_file_than_the_published_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(b"other")
    monkeypatch.setenv(local.VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth: not the published file \(its sha256 differs\)"):
        weights.fetch_weights(tmp_path, "imagenet")


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("pwned",))


@pytest.mark.parametrize("data", [b"no checkpoint", pickle.dumps(Hostile(), 2), pickle.dumps([1, 2], 2)])
def test_a_file_that_is_no_checkpoint_is_named_and_runs_no_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    publish(monkeypatch, tmp_path, data)
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth: not a checkpoint of torchvision's ResNet-18"):
        weights.fetch_weights(tmp_path, "imagenet")
    assert "pwned" not in capsys.readouterr().out


def test_weights_that_are_missing_or_anothers_are_told(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(UserError, match=r"missing or damaged .*download"):
        build_model(MODEL, (32, 32, 3), [[0, 1]], weights=tmp_path / "none.safetensors")
    save_file({"conv": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not the weights of a ResNet-18"):
        build_model(MODEL, (32, 32, 3), [[0, 1]], weights=tmp_path / "other.safetensors")
