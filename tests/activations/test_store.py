"""What was written comes back; what was interrupted goes on; what does not belong is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import udl_lab.activations.manifest
from udl_lab.activations.recorder import Site
from udl_lab.activations.store import ActivationStore
from udl_lab.randomness import generator

PROVENANCE = {"checkpoint": "abc", "config": "def", "code": "0.1", "interpolation": "none"}
ELEMENTS = ["identity", "+90", "+180"]
RELU = Site("relu", 1)
BLOCKS = [range(4), range(4, 8), range(8, 10)]


def store(folder, **changed):
    settings = {"elements": ELEMENTS, "n_images": 10} | changed
    provenance = PROVENANCE | settings.pop("provenance", {})
    return ActivationStore(folder, provenance, **settings)


def sample():
    draw = generator(0, "acts")
    return {
        Site("conv"): torch.randn(3, 10, 2, 4, 4, generator=draw),
        RELU: torch.randn(3, 10, 5, generator=draw).to(torch.bfloat16),
        Site(".", port="logits"): torch.randn(3, 10, dtype=torch.float64, generator=draw),
    }


def write(kept, block, sites=None):
    ids = torch.tensor(list(block))
    kept.write({s: a[:, ids] for s, a in sample().items() if not sites or s in sites}, ids)


def files(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_what_is_read_is_what_was_written_in_the_order_of_the_sample(tmp_path, order):
    for i in order:
        write(store(tmp_path), BLOCKS[i])
    kept = store(tmp_path)
    assert sorted(kept.sites()) == [".#0:logits", "conv#0", "relu#1"]
    for site, acts in sample().items():
        for e, element in enumerate(ELEMENTS):
            found = kept.read(site, element)
            assert found.dtype == acts.dtype
            assert torch.equal(found, acts[e])
    assert torch.equal(kept.read("conv", "+90"), sample()[Site("conv")][1])


def test_images_of_a_block_may_come_in_any_order(tmp_path):
    for block in ([9, 2, 3, 0], [8, 1, 4, 5, 7, 6]):
        write(store(tmp_path), block)
    assert torch.equal(store(tmp_path).read("conv", "+180"), sample()[Site("conv")][2])


def test_the_manifest_says_where_each_shard_comes_from(tmp_path):
    write(store(tmp_path), BLOCKS[0], [RELU])
    manifest = json.loads((tmp_path / "manifest-0.json").read_text())
    [shard] = manifest.pop("shards")
    assert manifest == PROVENANCE | {"format": 1, "elements": ELEMENTS, "n_images": 10}
    assert shard == {
        **{"file": "relu#1-0000000.safetensors", "site": "relu#1", "ids": [0, 1, 2, 3]},
        **{"shape": [3, 4, 5], "dtype": "bfloat16", "rank": 0},
        "bytes": (tmp_path / shard["file"]).stat().st_size,
    }


def test_a_resumed_run_is_told_what_is_missing_and_leaves_the_rest_alone(tmp_path):
    first = store(tmp_path)
    assert first.missing(["conv", RELU], BLOCKS) == [
        (site, block) for site in ("conv#0", "relu#1") for block in BLOCKS
    ]
    write(first, BLOCKS[0])
    write(first, BLOCKS[1], [RELU])
    resumed = store(tmp_path)
    expected = [("conv#0", BLOCKS[1]), ("conv#0", BLOCKS[2]), ("relu#1", BLOCKS[2])]
    assert resumed.missing(["conv", RELU], BLOCKS) == expected
    before = (tmp_path / "relu#1-0000004.safetensors").stat()
    write(resumed, BLOCKS[1])
    assert (tmp_path / "relu#1-0000004.safetensors").stat() == before
    write(resumed, BLOCKS[2])
    assert resumed.missing(["conv", RELU], BLOCKS) == []
    assert torch.equal(resumed.read(RELU, "+90"), sample()[RELU][1])


def test_a_shard_that_was_deleted_is_missing_again(tmp_path):
    write(store(tmp_path), range(10))
    (tmp_path / "conv#0-0000000.safetensors").unlink()
    resumed = store(tmp_path)
    assert resumed.missing(["conv", RELU], [range(10)]) == [("conv#0", range(10))]
    write(resumed, range(10))
    assert torch.equal(resumed.read("conv", "+90"), sample()[Site("conv")][1])


def test_an_interrupted_write_leaves_no_half_shard_and_is_done_again(tmp_path, monkeypatch):
    write(store(tmp_path), BLOCKS[0])
    before = files(tmp_path)

    def interrupted(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(udl_lab.activations.manifest.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(store(tmp_path), BLOCKS[1])
    assert files(tmp_path) == before
    resumed = store(tmp_path)
    assert resumed.missing(["conv"], BLOCKS) == [("conv#0", b) for b in BLOCKS[1:]]
    for block in BLOCKS[1:]:
        write(resumed, block)
    assert torch.equal(resumed.read("conv", "identity"), sample()[Site("conv")][0])


def test_a_shard_that_no_manifest_lists_yet_does_not_count(tmp_path):
    write(store(tmp_path), BLOCKS[0])
    listed = (tmp_path / "manifest-0.json").read_text()
    write(store(tmp_path), BLOCKS[1])
    (tmp_path / "manifest-0.json").write_text(listed)  # as if killed just before it was renamed
    assert store(tmp_path).missing(["conv"], BLOCKS[:2]) == [("conv#0", BLOCKS[1])]
    write(store(tmp_path), BLOCKS[1])
    assert store(tmp_path).missing(["conv"], BLOCKS[:2]) == []


def test_the_shards_of_two_processes_are_read_together(tmp_path):
    write(store(tmp_path), BLOCKS[0])
    manifest = (tmp_path / "manifest-0.json").rename(tmp_path / "manifest-1.json")
    text = json.loads(manifest.read_text())
    text["shards"] = [shard | {"rank": 1} for shard in text["shards"]]
    manifest.write_text(json.dumps(text))
    kept = store(tmp_path)
    for block in BLOCKS[1:]:
        write(kept, block)
    assert torch.equal(kept.read("conv", "+90"), sample()[Site("conv")][1])
    own = json.loads((tmp_path / "manifest-0.json").read_text())
    assert {min(shard["ids"]) for shard in own["shards"]} == {4, 8}
    assert json.loads(manifest.read_text()) == text


def test_the_first_block_is_held_against_the_budget_before_anything_is_written(tmp_path):
    # Per image and 3 elements: 32 float32, 5 bfloat16 and 1 float64.
    per_image = {"conv#0": 384, "relu#1": 30, ".#0:logits": 24}
    whole = 10 * sum(per_image.values())
    folder = tmp_path / "new"
    message = r"10 images would take 4.38 kB, more than max_bytes=4.38 kB: conv#0 3.84 kB, relu#1"
    with pytest.raises(ValueError, match=message):
        write(store(folder, max_bytes=whole - 1), BLOCKS[0])
    assert not folder.exists()
    write(store(folder, max_bytes=whole), BLOCKS[0])
    with pytest.raises(ValueError, match="nothing of this block was written"):
        write(store(folder, max_bytes="1kB"), BLOCKS[1])  # also counts what is there
    assert store(folder).missing(["conv"], BLOCKS) == [("conv#0", b) for b in BLOCKS[1:]]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"provenance": {"checkpoint": "xyz"}}, "checkpoint 'abc', not 'xyz'"),
        ({"provenance": {"seed": 3}}, "seed None, not 3"),
        ({"elements": ["identity", "+90"]}, "elements"),
        ({"n_images": 11}, "n_images 10, not 11"),
    ],
)
def test_a_folder_of_other_activations_is_refused(tmp_path, changed, message):
    write(store(tmp_path), BLOCKS[0])
    with pytest.raises(ValueError, match=message + ".*another folder"):
        store(tmp_path, **changed)


def test_provenance_that_is_silent_on_a_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"lacks \['code', 'interpolation'\]"):
        ActivationStore(tmp_path, {"checkpoint": "", "config": ""}, elements=["e"], n_images=1)


def test_other_blocks_than_before_are_refused(tmp_path):
    write(store(tmp_path), BLOCKS[0])
    for blocks in ([range(2)], [range(2, 6)], [range(8)]):
        with pytest.raises(ValueError, match="already, in a block of 4 images"):
            store(tmp_path).missing(["conv"], blocks)
        with pytest.raises(ValueError, match="already, in a block of 4 images"):
            write(store(tmp_path), blocks[0])


def test_an_unfinished_site_and_a_mistyped_name_are_not_read(tmp_path):
    kept = store(tmp_path)
    write(kept, BLOCKS[0])
    with pytest.raises(ValueError, match="conv#0 has 4 of 10 images"):
        kept.read("conv", "identity")
    with pytest.raises(ValueError, match=r"did you mean 'conv#0'"):
        kept.read("cov", "identity")
    with pytest.raises(ValueError, match=r"did you mean '\+180'"):
        kept.read("conv", "180")


def test_a_damaged_shard_is_named_with_the_remedy(tmp_path):
    kept = store(tmp_path)
    write(kept, range(10))
    path = tmp_path / "conv#0-0000000.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for use in (lambda: kept.read("conv", "+90"), lambda: kept.missing(["conv"], BLOCKS)):
        with pytest.raises(ValueError, match=r"conv#0-.* does not have the listed size; delete"):
            use()
    path.write_bytes(b"\xff" * len(whole))
    with pytest.raises(ValueError, match=r"conv#0-.* cannot be read .*; delete"):
        kept.read("conv", "+90")
    acts = load_file(tmp_path / "relu#1-0000000.safetensors")
    save_file(acts, path)  # a whole shard, but of something else
    with pytest.raises(ValueError, match="does not have the listed size"):
        kept.read("conv", "+90")


def test_a_shard_under_another_ones_name_is_refused(tmp_path):
    kept = store(tmp_path)
    write(kept, range(5))
    write(kept, range(5, 10))
    one, other = (tmp_path / f"conv#0-000000{first}.safetensors" for first in (0, 5))
    other.write_bytes(one.read_bytes())
    with pytest.raises(ValueError, match=r"conv#0-0000005\.safetensors is not the shard"):
        kept.read("conv", "+90")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"shards": [{"file": "x"}]}', "{"])
def test_a_damaged_manifest_is_named_with_the_remedy(tmp_path, text):
    write(store(tmp_path), BLOCKS[0])
    (tmp_path / "manifest-0.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest-0\.json is no manifest .*; delete"):
        store(tmp_path)


def test_a_batch_that_does_not_fit_is_refused(tmp_path):
    kept = store(tmp_path)
    for ids in ([], [0, 0], [9, 10], [-1, 0]):
        with pytest.raises(ValueError, match="no block of the 10"):
            kept.write({"fc": torch.ones(3, len(ids), 2)}, torch.tensor(ids, dtype=torch.long))
    with pytest.raises(ValueError, match=r"fc#0 has shape \(2, 4, 1\), but there are 3 elements"):
        kept.write({"fc": torch.ones(2, 4, 1)}, torch.arange(4))
    assert files(tmp_path) == []
