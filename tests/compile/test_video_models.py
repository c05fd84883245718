"""Video encoders from checkpoint folders; Hugging Face's classes with the same weights are the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from dual_encoders import build, enlarged, reduce_at, without_text
from torch import Tensor
from transformers import VideoMAEForPreTraining, VivitModel
from videos import (
    CLASSIFIERS,
    CONFIGS,
    FAMILIES,
    FRAMES,
    PROBES,
    SIDE,
    UNITS,
    classifier,
    clip,
    config_of,
    encoder,
)

from sanderling.arrays import Arrays
from sanderling.compile.architecture import Adapted
from sanderling.compile.blocks.reduce import ReduceAt
from sanderling.compile.checkpoint import adapt_folder
from sanderling.compile.flops import multiply_adds, parameters
from sanderling.compile.models import timesformer, videomae, vivit
from sanderling.compile.passes.prune import Prune
from sanderling.compile.pruning.groups import find_groups
from sanderling.compile.work import begin
from sanderling.reduction import Reduction, View
from sanderling.spec import ArrayInput

# Answers are of size 1 to 4; sums in another order move float32 by a few units of 1e-6.
ROUNDING = 2e-5
DESCRIBE: dict[str, Any] = {
    "videomae": videomae.describe,
    "vivit": vivit.describe,
    "timesformer": timesformer.describe,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "videomae": videomae._DEFAULTS,
    "vivit": vivit._DEFAULTS,
    "timesformer": timesformer._DEFAULTS,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Adapted]]:
    """Return each family's oracle and the model adapted from the folder it saved."""
    return {family: saved(classifier(family), tmp_path_factory.mktemp(family)) for family in FAMILIES}


def saved(model: Any, folder: Path) -> tuple[Any, Adapted]:
    """Return the oracle and the model adapted from the folder it saves."""
    model.save_pretrained(folder)
    return model, adapt_folder(folder)


def assert_close(came: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(came, wanted, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_class_scores_equal_hugging_face(sources: dict[str, tuple[Any, Adapted]], family: str) -> None:
    model, adapted = sources[family]
    scores, kept = build(adapted, "video")(clip(FRAMES[family]))
    assert_close(scores, model(clip(FRAMES[family])).logits)
    assert kept.tolist() == [list(range(UNITS[family]))] * 3


OTHER_FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "videomae without biases": ("videomae", {"qv_bias": False}),
    "videomae, frames and pixels that fill no tube": ("videomae", {"num_frames": 7, "image_size": 20}),
    "videomae, large epsilon": ("videomae", {"layer_norm_eps": 0.1}),
    "vivit without biases": ("vivit", {"qkv_bias": False}),
    "vivit, gelu": ("vivit", {"hidden_act": "gelu"}),
    "vivit, tubes of three frames": ("vivit", {"tubelet_size": [3, 8, 8]}),
    "timesformer without biases": ("timesformer", {"qkv_bias": False}),
    "timesformer, as many frames as heads": ("timesformer", {"num_frames": 4}),
    "timesformer, one frame": ("timesformer", {"num_frames": 1}),
    "two classes, which config.json leaves out": ("vivit", {"num_labels": 2}),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
@torch.no_grad()
def test_other_forms_equal_hugging_face(form: str, tmp_path: Path) -> None:
    family, changes = OTHER_FORMS[form]
    model, adapted = saved(classifier(family, **changes), tmp_path)
    pixels = clip(changes.get("num_frames", FRAMES[family]), side=changes.get("image_size", SIDE))
    assert_close(build(adapted, "video")(pixels)[0], model(pixels).logits)


@pytest.mark.parametrize("mean", [True, False])
@torch.no_grad()
def test_videomae_without_a_head_is_the_mean_of_the_last_hidden_state(mean: bool, tmp_path: Path) -> None:
    model, adapted = saved(encoder("videomae", use_mean_pooling=mean), tmp_path)
    assert adapted.spec.outputs == ("video_embeddings", "video_kept")
    assert_close(build(adapted, "video")(clip(8))[0], model(clip(8)).last_hidden_state.mean(1))


@torch.no_grad()
def test_a_pre_training_checkpoint_gives_its_encoder(tmp_path: Path) -> None:
    config = config_of("videomae", decoder_num_hidden_layers=1, decoder_hidden_size=16, decoder_num_attention_heads=2)
    model, adapted = saved(enlarged(VideoMAEForPreTraining(config)), tmp_path)
    wanted = model.videomae(clip(8)).last_hidden_state.mean(1)
    assert_close(build(adapted, "video")(clip(8))[0], wanted)


@torch.no_grad()
def test_vivit_without_a_head_is_its_pooler_or_its_class_token(tmp_path: Path) -> None:
    model, adapted = saved(encoder("vivit", pooler_output_size=12), tmp_path / "pooled")
    assert_close(build(adapted, "video")(clip(8))[0], model(clip(8)).pooler_output)
    bare, adapted = saved(enlarged(VivitModel(config_of("vivit"), add_pooling_layer=False)), tmp_path / "bare")
    assert_close(build(adapted, "video")(clip(8))[0], bare(clip(8)).last_hidden_state[:, 0])


@torch.no_grad()
def test_timesformer_without_a_head_is_its_class_token(tmp_path: Path) -> None:
    model, adapted = saved(encoder("timesformer"), tmp_path)
    assert_close(build(adapted, "video")(clip(6))[0], model(clip(6)).last_hidden_state[:, 0])


@pytest.mark.parametrize("keep", [9, 4, 1])
@torch.no_grad()
def test_videomae_of_some_tubes_equals_hugging_face_with_the_others_masked(keep: int, tmp_path: Path) -> None:
    model, adapted = saved(encoder("videomae"), tmp_path)
    came, kept = build(adapted, "video", reduce_at("saliency", 0))(clip(8), torch.tensor(keep))
    masked = torch.ones(3, UNITS["videomae"], dtype=torch.bool).scatter(1, kept, False)
    assert_close(came, model(clip(8), bool_masked_pos=masked).last_hidden_state.mean(1))


@pytest.mark.parametrize("keep", [5, 4, 2, 1])
@torch.no_grad()
def test_timesformer_of_some_frames_equals_hugging_face_built_for_as_many(
    sources: dict[str, tuple[Any, Adapted]], keep: int
) -> None:
    whole, adapted = sources["timesformer"]
    came, kept = build(adapted, "video", reduce_at("saliency", 0))(clip(6, batch=1), torch.tensor(keep))
    fewer = classifier("timesformer", num_frames=keep)
    state = whole.state_dict()
    moments = "timesformer.embeddings.time_embeddings"
    fewer.load_state_dict({**state, moments: state[moments][:, kept[0]]})
    assert_close(came, fewer(clip(6, batch=1)[:, kept[0]]).logits)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("reducer", without_text())
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_reducers_keep_all_or_fewer(
    sources: dict[str, tuple[Any, Adapted]], family: str, reducer: str, layer: int
) -> None:
    full, _ = build(sources[family][1], "video")(clip(FRAMES[family]))
    part = build(sources[family][1], "video", reduce_at(reducer, layer))
    same, kept = part(clip(FRAMES[family]), torch.tensor(UNITS[family]))
    assert_close(same, full)
    assert kept.tolist() == [list(range(UNITS[family]))] * 3
    fewer, kept = part(clip(FRAMES[family]), torch.tensor(3))
    assert kept.shape == (3, 3)
    assert all(row == sorted(set(row)) and row[0] >= 0 and row[-1] < UNITS[family] for row in kept.tolist())
    assert float((fewer - full).abs().max()) > 1e-2


@pytest.mark.parametrize("layer", [0, 1])
@torch.no_grad()
def test_merging_equal_frames_changes_nothing(layer: int, tmp_path: Path) -> None:
    """Without time embeddings, a clip of one frame again and again merges without loss when sizes reach everything."""
    model = classifier("timesformer")
    model.timesformer.embeddings.time_embeddings.zero_()
    _, adapted = saved(model, tmp_path)
    still = clip(6)[:, :1].expand(-1, 6, -1, -1, -1)
    full, _ = build(adapted, "video")(still)
    merged, _ = build(adapted, "video", reduce_at("merge", layer))(still, torch.tensor(2))
    assert_close(merged, full)


@dataclass(frozen=True)
class IntoTwo:
    """Merges six frames into the first and the fifth, which is another one than the rest."""

    name: str = "into_two"
    merges: bool = True
    needs_text: bool = False

    def __call__(self, arrays: Arrays, view: View, keep: int) -> Reduction:
        """Return the two, whatever the frames show."""
        batch = view.saliency.shape[0]
        kept, target = torch.tensor([0, 4]), torch.tensor([0, 0, 0, 0, 4, 0])
        return Reduction(kept.expand(batch, -1), target.expand(batch, -1))


@torch.no_grad()
def test_a_merged_frame_counts_as_the_frames_it_stands_for(tmp_path: Path) -> None:
    model = classifier("timesformer")
    model.timesformer.embeddings.time_embeddings.zero_()
    _, adapted = saved(model, tmp_path)
    one, other = clip(2)[:, :1], clip(2)[:, 1:]
    mixed = torch.cat([one, one, one, one, other, one], dim=1)
    full, _ = build(adapted, "video")(mixed)
    for layer in (0, 1):
        merged, _ = build(adapted, "video", ReduceAt(IntoTwo(), layer))(mixed, torch.tensor(2))
        assert_close(merged, full)


@pytest.mark.parametrize("family", FAMILIES)
def test_spec_names_component_lever_and_sites(sources: dict[str, tuple[Any, Adapted]], family: str) -> None:
    adapted = sources[family][1]
    lever, report = ("frames", "frames_kept") if family == "timesformer" else ("tokens.video", "video_kept")
    shape = ("batch", FRAMES[family], 3, SIDE, SIDE)
    assert adapted.spec.inputs == (ArrayInput("pixel_values", "float32", shape),)
    assert [(each.name, each.minimum, each.maximum) for each in adapted.spec.levers] == [(lever, 1, UNITS[family])]
    places = [(site.lever, site.kind, site.layer, site.report) for site in adapted.spec.sites]
    assert places == [(lever, "input", 0, report), (lever, "inner", 1, report), (lever, "inner", 2, report)]
    assert adapted.spec.outputs == ("class_scores", report)
    assert [part.probe for part in adapted.parts] == [(PROBES[family],)]


PUBLISHED = {"videomae": (86.53, 180.49), "vivit": (88.95, 451.83), "timesformer": (121.57, 196.05)}
"""Millions of parameters and thousands of millions of multiply-adds at the published sizes with 400 classes."""


@pytest.mark.parametrize("family", FAMILIES)
def test_published_sizes(family: str) -> None:
    config = CONFIGS[family](num_labels=400)
    with torch.device("meta"):
        oracle = CLASSIFIERS[family](config)
        model = DESCRIBE[family](config.to_dict(), oracle.state_dict())
        module = model.build(None).eval()
    of_keys = 12 * 768 if family == "videomae" else 0  # their biases, which are zero, are ours alone
    assert parameters(module) - of_keys == parameters(oracle)
    pixels = torch.zeros(1, model.config.frames, 3, 224, 224, device="meta")
    costs = multiply_adds(module.to("meta"), (pixels,))
    assert (parameters(module) / 1e6, costs / 1e9) == pytest.approx(PUBLISHED[family], rel=0.005)


@pytest.mark.parametrize("family", FAMILIES)
def test_multiply_adds_fall_with_the_lever(sources: dict[str, tuple[Any, Adapted]], family: str) -> None:
    part = build(sources[family][1], "video", reduce_at("grid", 0))
    costs = [multiply_adds(part, (clip(FRAMES[family]), torch.tensor(keep))) for keep in (UNITS[family], 4, 1)]
    assert costs == sorted(costs, reverse=True)
    assert costs[2] < costs[0] / 3


@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_are_those_of_the_published_model(family: str) -> None:
    theirs = CONFIGS[family]()
    for key, ours in DEFAULTS[family].items():
        if key != "pooler_output_size":  # filled in by Hugging Face
            assert ours == (list(value) if isinstance(value := getattr(theirs, key), tuple) else value)


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_and_channels_can_be_pruned(sources: dict[str, tuple[Any, Adapted]], family: str) -> None:
    adapted = sources[family][1]
    kinds = [group.kind for group in find_groups(build(adapted, "video"))]
    assert kinds.count("heads") == 3 * (2 if family == "timesformer" else 1)
    step = Prune(heads=0.5, channels=0.5)
    work = begin(adapted)
    assert step.requires(work) is None
    pruned = step.apply(work).work
    assert step.ensures(pruned) is None
