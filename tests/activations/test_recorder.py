"""The recorder says what each layer computed in the last forward, and leaves no trace."""

from copy import deepcopy

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch import nn
from torch.utils.checkpoint import checkpoint

from udl_lab.activations.recorder import Site, activations, record
from udl_lab.errors import UsageError
from udl_lab.randomness import generator, seeded


class TwoLayer(nn.Module):
    """Linear, in-place ReLU, linear; registered in another order than they run."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(4, 2)
        self.hidden = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.output(self.hidden(x))


class Reused(nn.Module):
    """One ReLU module called twice in a forward."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x))))


class Returns(nn.Module):
    """Its child `part` returns whatever `make` makes of the input."""

    def __init__(self, make):
        super().__init__()
        self.part = Lambda(make)

    def forward(self, x):
        self.part(x)
        return x


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attend(x, x, x, need_weights=False)[0]


class Blocks(nn.Module):
    """A ModuleList, which is never called, of blocks with a forward of their own."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([TwoLayer(), TwoLayer()])

    def forward(self, x):
        return sum(block(x) for block in self.blocks)


def built(cls, *args):
    with seeded(0, "net"):
        return cls(*args)


def inputs(*shape, stream=0):
    return torch.randn(*shape, generator=generator(0, "x", stream))


def hook_counts(net):
    return [
        len(hooks)
        for module in net.modules()
        for hooks in (
            module._forward_hooks,
            module._forward_hooks_with_kwargs,
            module._forward_hooks_always_called,
            module._forward_pre_hooks,
            module._forward_pre_hooks_with_kwargs,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    ]


# What is recorded


def test_the_recorded_activations_are_those_computed_by_hand():
    net, x = built(TwoLayer), inputs(5, 3)
    with record(net, ["hidden.*", "output"]) as rec:
        net(x)
    before = x @ net.hidden[0].weight.T + net.hidden[0].bias
    after = before.clamp(min=0)
    assert (before < 0).any()  # else the in-place ReLU would go unnoticed
    # One product of at most 4 terms: a few units in the last place.
    torch.testing.assert_close(rec["hidden.0"], before.detach())
    torch.testing.assert_close(rec["hidden.1"], after.detach())
    expected = after @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(rec["output"], expected.detach())


def test_sites_come_in_the_order_of_execution_not_of_registration():
    acts = activations(built(TwoLayer), inputs(5, 3), sites=["output", "hidden", "*"])
    assert list(acts) == ["hidden.0", "hidden.1", "hidden", "output"]


def test_a_site_is_written_with_its_call_and_port_only_where_they_say_something():
    assert str(Site("fc")) == "fc"
    assert str(Site("fc", 1)) == "fc#1"
    assert str(Site("fc", port="0")) == "fc:0"
    assert str(Site("fc", 2, "key")) == "fc#2:key"
    assert Site("fc").in_full == "fc#0"


def test_recorded_tensors_carry_no_graph_and_leave_the_gradient_as_it_was():
    net, x = built(TwoLayer), inputs(5, 3)
    plain = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    with record(net, "*") as rec:
        watched = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    assert not any(rec[site].requires_grad for site in rec.sites())
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_of_several_forwards_the_last_one_is_kept():
    net, x, y = built(TwoLayer), inputs(5, 3), inputs(7, 3, stream=1)
    with record(net, ["output"]) as rec:
        net(x)
        first = rec["output"]
        net(y)
    assert torch.equal(rec["output"], net(y))
    assert torch.equal(first, net(x))


def test_a_layer_that_ran_only_in_an_earlier_forward_is_not_read_as_if_it_ran_in_the_last():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.positive, self.negative = nn.Identity(), nn.Identity()

        def forward(self, x):
            return self.positive(x) if x.sum() > 0 else self.negative(x)

    net = Branch()
    with record(net, ["positive", "negative"]) as rec:
        net(torch.ones(1))
        net(-torch.ones(1))
    assert rec.sites() == [Site("negative")]
    with pytest.raises(LookupError, match=r"'positive' recorded nothing.*negative#0"):
        rec["positive"]


# Addresses


def test_a_bare_name_of_a_layer_called_twice_is_refused_and_its_calls_are_listed():
    net, x = built(Reused), inputs(5, 3)
    with record(net, "relu") as rec:
        net(x)
    with pytest.raises(LookupError, match=r"several.*'relu#0', 'relu#1'"):
        rec["relu"]
    inner = net.first(x).relu()
    assert torch.equal(rec["relu#0"], inner)
    assert torch.equal(rec["relu#1"], net.second(inner).relu())
    assert torch.equal(rec[Site("relu", 1)], rec["relu#1"])
    assert [str(site) for site in rec.sites()] == ["relu", "relu#1"]
    assert not torch.equal(rec["relu#0"], rec["relu#1"])


def test_calls_are_counted_anew_in_every_forward():
    net, x = built(Reused), inputs(5, 3)
    with record(net, "relu") as rec:
        net(x)
        net(x)
    assert rec.sites() == [Site("relu", 0), Site("relu", 1)]


def test_a_forward_that_failed_midway_leaves_no_calls_to_the_next():
    net = Returns(lambda x: x / 0 if x.dtype == torch.float32 else int("not a number"))
    with record(net, "part") as rec:
        with pytest.raises(ValueError, match="not a number"):
            net(torch.ones(1, dtype=torch.float64))
        net.part(torch.ones(1))  # after the failure, this is outside any forward
        assert rec.sites() == []
        net(torch.ones(1))
    assert rec.sites() == [Site("part")]


def test_one_shot_keys_never_hide_a_second_call_behind_the_bare_name():
    acts = activations(built(Reused), inputs(5, 3), sites="*")
    assert list(acts) == ["first", "relu#0", "second", "relu#1"]


def test_a_shared_module_answers_to_each_of_its_names():
    net = nn.Sequential()
    net.add_module("encoder", nn.Linear(3, 3))
    net.add_module("decoder", net.encoder)
    x = inputs(5, 3)
    assert list(activations(net, x, sites="dec*")) == ["encoder#0", "encoder#1"]
    with record(net, "decoder") as rec:
        net(x)
    assert rec.sites() == [Site("encoder", 0), Site("encoder", 1)]
    for name in ("encoder", "decoder"):
        assert torch.equal(rec[f"{name}#0"], net.encoder(x))
        assert torch.equal(rec[Site(name, 1)], net(x))
        with pytest.raises(LookupError, match="several"):
            rec[name]


def test_tensors_inside_tuples_and_dicts_have_ports_and_the_rest_is_passed_over():
    nested = {"a": (1, None, [lambda: 0, 2 * torch.ones(1)]), 7: torch.ones(1), "s": "text"}
    with record(Returns(lambda x: nested), "part") as rec:
        rec.run(torch.zeros(1))
    assert [str(site) for site in rec.sites()] == ["part:a.2.1", "part:7"]
    assert rec["part:a.2.1"] == 2
    assert rec["part#0:7"] == 1
    with pytest.raises(LookupError, match=r"part#0:a.2.1.*part#0:7"):
        rec["part"]


def test_the_only_tensor_of_a_tuple_may_be_read_by_the_bare_name():
    net = Returns(lambda x: (x + 1, None))
    with record(net, "part") as rec:
        net(torch.zeros(2))
    assert torch.equal(rec["part"], torch.ones(2))
    assert torch.equal(rec["part:0"], rec["part"])


def test_an_lstm_has_three_ports():
    net = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    x = inputs(2, 5, 3)
    acts = activations(net, x, sites="0")
    assert {name: tuple(a.shape) for name, a in acts.items()} == {
        "0:0": (2, 5, 4),
        "0:1.0": (1, 2, 4),
        "0:1.1": (1, 2, 4),
    }
    assert torch.equal(acts["0:0"][:, -1], acts["0:1.0"][0])  # h_T is the last output


@pytest.mark.parametrize("value", [None, "text", 3, (), {}, [None, {"k": ()}]])
def test_an_output_without_tensors_never_crashes_the_forward(value):
    net = Returns(lambda x: value)
    with pytest.raises(UsageError, match="'part' recorded nothing"), record(net, "part"):
        assert net(torch.ones(1)) == 1


# Choosing sites


def test_a_star_gives_all_that_compute_and_nothing_that_only_groups():
    net, x = built(Blocks), inputs(5, 3)
    assert list(activations(net, x, sites="*")) == [
        *("blocks.0.hidden.0", "blocks.0.hidden.1", "blocks.0.output", "blocks.0"),
        *("blocks.1.hidden.0", "blocks.1.hidden.1", "blocks.1.output", "blocks.1"),
    ]
    assert list(activations(net, x, sites="blocks.?")) == ["blocks.0", "blocks.1"]


def test_a_container_that_runs_can_be_named_exactly():
    net, x = built(TwoLayer), inputs(5, 3)
    acts = activations(net, x, sites=["hidden", "."])
    assert torch.equal(acts["hidden"], net.hidden(x))
    assert torch.equal(acts["."], net(x))


def test_a_network_of_one_layer_matches_the_star():
    net, x = built(nn.Linear, 3, 2), inputs(5, 3)
    assert torch.equal(activations(net, x, sites="*")["."], net(x))


def test_a_mistyped_site_is_answered_with_the_nearest_names():
    net = built(TwoLayer)
    with pytest.raises(UsageError, match=r"'ouput' names no layer.*did you mean 'output'\?"):
        activations(net, inputs(5, 3), sites=["hidden.*", "ouput"])
    with pytest.raises(UsageError, match=r"exact name is '\.'"):
        activations(net, inputs(5, 3), sites="")
    with pytest.raises(UsageError, match="sites='\\*'"):
        activations(net, inputs(5, 3), sites=[])


def test_a_glob_that_only_a_container_fits_is_refused():
    with pytest.raises(UsageError, match="passes over Sequential"):
        activations(built(TwoLayer), inputs(5, 3), sites="hidde?")


def test_a_site_that_hooks_cannot_see_is_an_error_at_the_end_of_the_block():
    net, x = built(Attention), inputs(2, 3, 4)
    with (
        pytest.raises(UsageError, match=r"'attend.out_proj' recorded nothing.*MultiheadAtt"),
        record(net, ["attend", "attend.out_proj"]),
    ):
        net(x)
    assert list(activations(net, x, sites="attend*")) == ["attend:0"]
    with pytest.raises(UsageError, match=r"'\*proj' recorded nothing"):
        activations(net, x, sites=["attend", "*proj"])
    with pytest.raises(UsageError, match="'blocks' recorded nothing"):
        activations(built(Blocks), inputs(5, 3), sites="blocks")


def test_a_block_without_a_forward_is_an_error():
    with pytest.raises(UsageError, match="'output' recorded nothing"):
        with record(built(TwoLayer), "output"):
            pass


def test_the_end_of_the_block_does_not_mask_an_exception_already_under_way():
    with pytest.raises(ZeroDivisionError), record(built(TwoLayer), "output"):
        raise ZeroDivisionError


def test_an_unknown_way_to_copy_is_refused():
    with pytest.raises(ValueError, match="'clone' nor 'guard' nor 'live'"):
        with record(built(TwoLayer), "output", copy="view"):
            pass


# Calls that bypass the network's own hooks


def test_calling_forward_directly_is_an_error_at_reading_and_at_the_end():
    net, x = built(TwoLayer), inputs(5, 3)
    with pytest.raises(UsageError, match=r"'output' recorded nothing.*not by net\.forward"):
        with record(net, "output") as rec:
            net.forward(x)
            with pytest.raises(LookupError, match=r"not by net\.forward"):
                rec["output"]


def test_a_layer_that_ran_again_outside_the_network_is_not_read_as_its_last_output():
    net, x, y = built(TwoLayer), inputs(5, 3), inputs(5, 3, stream=1)
    with record(net, "output") as rec:
        net(x)
        net.forward(y)
        with pytest.raises(RuntimeError, match=r"'output' ran again.*not by net\.forward"):
            rec["output"]
        net(y)
        assert torch.equal(rec["output"], net(y))


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_gradient_checkpointing_adds_no_calls(outside, use_reentrant):
    class Checkpointed(TwoLayer):
        def forward(self, x):
            return self.output(checkpoint(self.hidden, x, use_reentrant=use_reentrant))

    net, x = built(TwoLayer if outside else Checkpointed), inputs(5, 3).requires_grad_()
    runs = []
    net.hidden[0].register_forward_hook(lambda *_: runs.append(1))
    with record(net, ["hidden.*", "output"]) as rec:
        y = checkpoint(net, x, use_reentrant=use_reentrant) if outside else net(x)
        y.sum().backward()
        assert len(runs) == 2  # the backward pass did repeat the layer
        assert [str(site) for site in rec.sites()] == ["hidden.0", "hidden.1", "output"]
        assert torch.equal(rec["output"], y)
        assert torch.equal(rec["hidden.0"], net.hidden[0](x))


# Copies


def test_guard_copies_nothing():
    net, x = built(TwoLayer), inputs(5, 3)
    with record(net, ["hidden.1", "output"], copy="guard") as rec:
        y = net(x)
    assert rec["output"].data_ptr() == y.data_ptr()
    assert not rec["output"].requires_grad
    assert rec["hidden.1"].min() == 0  # written by the ReLU itself, not since


def test_guard_refuses_a_tensor_that_was_modified_in_place_since():
    net, x = built(TwoLayer), inputs(5, 3)
    with record(net, "hidden.0", copy="guard") as rec:
        net(x)
    with pytest.raises(RuntimeError, match=r"'hidden.0' was modified in place"):
        rec["hidden.0"]


def test_inference_mode_works_with_clones_and_is_refused_by_guard():
    net, x = built(TwoLayer), inputs(5, 3)
    with torch.inference_mode():
        assert torch.equal(activations(net, x, sites="output")["output"], net(x))
        with pytest.raises(RuntimeError, match="inference_mode"):
            with record(net, "output", copy="guard"):
                net(x)
    assert sum(hook_counts(net)) == 0


def test_live_tensors_keep_their_graph():
    net, x = built(Reused), inputs(5, 3)
    with record(net, "relu", copy="live") as rec:
        y = net(x)
    assert rec["relu#1"] is y
    [gradient] = torch.autograd.grad(y.sum(), rec["relu#0"])
    gate = (y > 0).float()
    torch.testing.assert_close(gradient, gate @ net.second.weight)


def test_a_live_tensor_shows_what_was_written_to_it_since():
    net, x = built(TwoLayer), inputs(5, 3)
    with record(net, "hidden.0", copy="live") as rec:
        net(x)
    assert torch.equal(rec["hidden.0"], net.hidden(x))  # after the in-place ReLU


# torch loads its forward-mode rules through torch.jit.script.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("copy", ["live", "clone", "guard"])
def test_only_live_tensors_keep_their_forward_tangents(copy):
    net, x, v = built(Reused), inputs(5, 3), inputs(5, 3, stream=1)
    with fwAD.dual_level(), record(net, "second", copy=copy) as rec:
        net(fwAD.make_dual(x, v))
        tangent = fwAD.unpack_dual(rec["second"]).tangent
    if copy == "live":
        gate = (net.first(x) > 0).float()
        inner = gate * (v @ net.first.weight.T)
        torch.testing.assert_close(tangent, inner @ net.second.weight.T)
    else:
        assert tangent is None


def test_a_live_tensor_handed_to_a_reducer_is_the_networks_own():
    net, x, seen = built(TwoLayer), inputs(5, 3), []
    with record(net, "output", copy="live", reduce=lambda _, a: seen.append(a)):
        y = net(x)
    assert seen[0] is y


# The budget of bytes


@pytest.mark.parametrize("copy", ["clone", "guard", "live"])
def test_a_forward_over_its_budget_is_aborted_with_every_sites_bytes_and_nothing_is_kept(copy):
    net, x = built(TwoLayer), inputs(5, 3)
    sizes = {"hidden.0": 80, "hidden.1": 80, "output": 40}  # 5 images, 4 and 2 float32
    sites = list(sizes)
    with record(net, sites, copy=copy, max_bytes=sum(sizes.values())) as rec:
        net(x)
        assert len(rec.sites()) == 3
    ran = []
    net.output.register_forward_hook(lambda *_: ran.append(1))
    message = r"max_bytes=199 B at output: hidden.0 80 B, hidden.1 80 B, output 40 B; give fewer"
    with record(net, sites, copy=copy, max_bytes="199B") as rec:
        with pytest.raises(UsageError, match=message):
            net(x)
        assert rec.sites() == []
        net(x[:2])  # the budget is of one forward, and a smaller one fits
        assert len(rec.sites()) == 3
    with pytest.raises(UsageError, match=r"at hidden.1: hidden.0 80 B, hidden.1 80 B;"):
        activations_within(net, x, 100)
    assert len(ran) == 2  # the last forward ended before it got there
    assert sum(hook_counts(net)) == 1


def activations_within(net, x, max_bytes):
    with record(net, "*", max_bytes=max_bytes):
        net(x)


def test_what_a_reducer_is_given_does_not_count_against_the_budget():
    seen = []
    with record(built(TwoLayer), "*", max_bytes=1, reduce=lambda *a: seen.append(a)) as rec:
        rec.run(inputs(5, 3))
    assert len(seen) == 3


def test_a_budget_that_is_no_number_of_bytes_is_refused():
    with pytest.raises(ValueError, match="'much' is no number of bytes"):
        with record(built(TwoLayer), "*", max_bytes="much"):
            pass


# Reducing


@pytest.mark.parametrize("copy", ["clone", "guard"])
def test_a_reducer_is_given_every_tensor_and_nothing_is_kept(copy):
    net, x, y = built(Reused), inputs(5, 3), inputs(7, 3, stream=1)
    seen = []
    with record(net, "relu", copy=copy, reduce=lambda s, a: seen.append((str(s), a.sum()))) as rec:
        net(x)
        net(y)
        with pytest.raises(LookupError, match="handed to `reduce`"):
            rec["relu#0"]
    expected = [
        (name, a.sum()) for z in (x, y) for name, a in activations(net, z, sites="relu").items()
    ]
    assert [name for name, _ in seen] == ["relu", "relu#1"] * 2
    assert [total for _, total in seen] == [total for _, total in expected]
    assert rec.sites() == [Site("relu", 0), Site("relu", 1)]


def test_a_reducer_may_keep_a_clone_and_sees_it_before_the_in_place_relu():
    net, x = built(TwoLayer), inputs(5, 3)
    seen = []
    with record(net, "hidden.0", reduce=lambda _, a: seen.append(a)):
        net(x)
    assert torch.equal(seen[0], net.hidden[0](x))


# Stopping early


def test_stop_ends_the_forward_after_the_last_site():
    net, x = built(TwoLayer), inputs(5, 3)
    ran = []
    net.output.register_forward_hook(lambda *_: ran.append(1))
    acts = activations(net, x, sites=["hidden.0", "hidden.1"], stop=True)
    assert list(acts) == ["hidden.0", "hidden.1"]
    assert torch.equal(acts["hidden.1"], net.hidden(x))
    assert ran == []


def test_after_a_stopped_run_the_block_goes_on():
    net, x = built(TwoLayer), inputs(5, 3)
    shapes = []
    with record(net, "hidden.0", stop=True) as rec:
        for n in (1, 2, 3):
            rec.run(x[:n])
            shapes.append(tuple(rec["hidden.0"].shape))
    assert shapes == [(1, 4), (2, 4), (3, 4)]


def test_a_stopped_bare_call_ends_the_block():
    net = built(TwoLayer)
    with record(net, "hidden.0", stop=True) as rec:
        net(inputs(5, 3))
        raise AssertionError("the block should have ended")
    assert rec.sites() == [Site("hidden.0")]


def test_a_stop_that_never_fires_is_a_whole_forward():
    net, x = built(Attention), inputs(2, 3, 4)
    with record(net, ["attend*", "."], stop=True) as rec:  # out_proj is never called
        y = net(x)
    assert torch.equal(rec["."], y)
    assert torch.equal(rec["attend"], y)


def test_an_inner_stop_is_not_caught_by_an_outer_recording_nor_the_reverse():
    net, x = built(TwoLayer), inputs(5, 3)
    with record(net, "hidden.0", stop=True) as outer:
        with record(net, ["hidden.0", "output"], stop=True):
            net(x)
        raise AssertionError("the outer stop fires first, and ends the outer block")
    assert outer.sites() == [Site("hidden.0")]
    with record(net, ["hidden.0", "hidden.1"], stop=True) as outer:
        with record(net, "hidden.0", stop=True) as inner:
            inner.run(x)
        assert outer.sites() == inner.sites() == [Site("hidden.0")]
        outer.run(x)
        assert outer.sites() == [Site("hidden.0"), Site("hidden.1")]


# No trace


class Broken(TwoLayer):
    def forward(self, x):
        self.hidden(x)
        raise ZeroDivisionError


def succeed(net, x):
    activations(net, x, sites=["*", "."])


def fail_in_the_body(net, x):
    with record(net, "*"):
        net(x)
        raise ZeroDivisionError


def fail_in_a_reducer(net, x):
    with record(net, "*", reduce=lambda site, a: 1 / 0):
        net(x)


def nest(net, x):
    with record(net, "*"), record(net, "output"):
        net(x)


def stop_early(net, x):
    activations(net, x, sites="hidden.0", stop=True)


def name_no_layer(net, x):
    activations(net, x, sites="nowhere")


def record_nothing(net, x):
    with record(net, "*"):
        pass


@pytest.mark.parametrize(
    "use, error",
    [
        (succeed, None),
        (nest, None),
        (stop_early, None),
        (fail_in_the_body, ZeroDivisionError),
        (fail_in_a_reducer, ZeroDivisionError),
        (name_no_layer, UsageError),
        (record_nothing, UsageError),
    ],
)
def test_the_hooks_are_as_they_were_before(use, error):
    net, x = built(TwoLayer), inputs(5, 3)
    calls = []
    net.hidden.register_forward_hook(lambda *_: calls.append("hook"))
    net.register_forward_pre_hook(lambda *_, **__: calls.append("pre"), with_kwargs=True)
    net.output.register_forward_hook(lambda *_: None, always_call=True)
    before = hook_counts(net)
    assert sum(before) == 5
    if error is None:
        use(net, x)
    else:
        with pytest.raises(error):
            use(net, x)
    assert hook_counts(net) == before
    calls.clear()
    net(x)
    assert calls == ["pre", "hook"]


def test_hooks_are_there_inside_the_block_and_gone_after_the_network_fails():
    net = built(Broken)
    with pytest.raises(ZeroDivisionError), record(net, "hidden.*"):
        assert sum(hook_counts(net)) > 0
        net(inputs(5, 3))
    assert sum(hook_counts(net)) == 0


def test_nested_recordings_do_not_disturb_each_other():
    net, x, y = built(TwoLayer), inputs(5, 3), inputs(7, 3, stream=1)
    with record(net, "*") as outer:
        net(x)
        with record(net, "output") as inner:
            net(y)
        net(x)
    assert torch.equal(outer["output"], net(x))
    assert torch.equal(inner["output"], net(y))
    assert [str(site) for site in outer.sites()] == ["hidden.0", "hidden.1", "output"]


@pytest.mark.parametrize("training", [True, False])
def test_mode_random_state_and_gradients_are_the_callers(training):
    net = nn.Sequential(built(nn.Linear, 3, 8), nn.Dropout(), nn.BatchNorm1d(8)).train(training)
    twin, x = deepcopy(net), inputs(5, 3)
    with seeded(0, "dropout"):
        plain, state = twin(x), torch.get_rng_state()
    with seeded(0, "dropout"), record(net, "*"):
        watched = net(x)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.is_grad_enabled()
    assert torch.equal(plain, watched)
    assert watched.requires_grad
    assert all(module.training == training for module in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), twin.buffers(), strict=True))


def test_a_copy_of_the_network_made_inside_the_block_does_not_write_into_the_recording():
    net, x, y = built(TwoLayer), inputs(5, 3), inputs(7, 3, stream=1)
    with record(net, "output") as rec:
        net(x)
        deepcopy(net)(y)
        assert torch.equal(rec["output"], net(x))


# Wrapped networks


def test_data_parallel_is_refused_with_advice():
    net = nn.DataParallel(built(TwoLayer))
    with pytest.raises(UsageError, match=r"record its `\.module`"):
        activations(net, inputs(5, 3), sites="*")
    assert list(activations(net.module, inputs(5, 3), sites="output")) == ["output"]


def test_a_layer_that_happens_to_be_called_module_keeps_its_name():
    net = nn.Sequential()
    net.add_module("module", built(TwoLayer))
    acts = activations(net, inputs(5, 3), sites=["*.output", "module"])
    assert list(acts) == ["module.output", "module"]


def test_ddp_layers_carry_their_eager_names():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        net, x = built(TwoLayer), inputs(5, 3)
        wrapped = nn.parallel.DistributedDataParallel(net)
        acts = activations(wrapped, x, sites=["output", "hidden.*", "."])
        assert list(acts) == ["hidden.0", "hidden.1", "output", "."]
        assert torch.equal(acts["output"], net(x))
        assert sum(hook_counts(wrapped)) == 0
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("way", ["around", "in place", "inside"])
def test_a_compiled_network_is_recorded_under_eager_names_and_not_compiled_again(way):
    graphs, runs = [], []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return lambda *args: runs.append(1) or graph.forward(*args)

    eager, x = built(TwoLayer), inputs(5, 3)
    net = deepcopy(eager)
    if way == "around":
        net = torch.compile(net, backend=backend)
    elif way == "in place":
        net.compile(backend=backend)
    else:
        net.hidden = torch.compile(net.hidden, backend=backend)
    net(x)
    assert len(graphs) == len(runs) == 1
    acts = activations(net, x, sites=["*", "hidden", "."])
    expected = activations(eager, x, sites=["*", "hidden", "."])
    assert list(acts) == list(expected) == ["hidden.0", "hidden.1", "hidden", "output", "."]
    assert all(torch.equal(acts[name], expected[name]) for name in acts)
    activations(net, x, sites="hidden.0", stop=True)
    assert len(runs) == 1  # the recorded forwards were eager
    net(x)
    assert (len(graphs), len(runs)) == (1, 2)  # and the compiled graph is in use again
    assert sum(hook_counts(net)) == 0
