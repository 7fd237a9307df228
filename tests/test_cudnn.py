"""Versions of cuDNN whose faults are named: the reported ones, and none beside them."""

from __future__ import annotations

import logging

import pytest
import torch

from gnsm_monai.cudnn import known_faults, name_known_faults


@pytest.mark.parametrize(
    ("torch_version", "cudnn", "amp", "words"),
    [
        ("2.8.0+cu128", 91002, False, ["cuDNN 9.10.2 with torch 2.8.0+cu128: convolutions of volumes in TF32"]),
        ("2.9.0+cu128", 91002, True, ["in TF32", "in bfloat16"]),
        ("2.9.1+cu128", 91002, True, ["in bfloat16"]),
        ("2.9.1+cu128", 91002, False, []),
        ("2.9.1", 91501, True, []),
        ("2.10.0", 91002, True, []),
        ("2.13.0+cu130", 91900, True, []),
        ("2.9.0a0+git1", 91300, False, ["cuDNN 9.13.0 with torch 2.9.0a0+git1"]),
        ("2.4.1", 8907, True, []),
        ("2.13.0+cpu", None, True, []),
    ],
)
def test_faults_are_those_that_were_reported(
    torch_version: str, cudnn: int | None, amp: bool, words: list[str]
) -> None:
    lines = known_faults(torch_version, cudnn, amp)
    assert len(lines) == len(words)
    assert all(word in line and "https://github.com/pytorch" in line for word, line in zip(words, lines, strict=True))


def test_only_volumes_on_a_gpu_are_concerned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.0+cu128")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    with caplog.at_level(logging.WARNING):
        name_known_faults("cpu", 3, False)
        name_known_faults("cuda:0", 2, False)
        assert not caplog.records
        name_known_faults("cuda:0", 3, False)
    assert "9.10.2" in caplog.text
