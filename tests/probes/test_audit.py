"""Predictions against measurement: closed forms, named cases, and a family of random networks."""

import itertools
from collections import OrderedDict

import pytest
import torch
from torch import nn

from udl_lab.activations.recorder import activations
from udl_lab.nets.c4 import C4CNN
from udl_lab.nets.cnn import CNN
from udl_lab.probes.audit import Finding, audit, disagreements
from udl_lab.probes.geometry import geometry
from udl_lab.probes.motion import Cause, Isometry, Shift, motion_of
from udl_lab.randomness import generator, seeded
from udl_lab.symmetry.actions import Flips, Rotations, Translations
from udl_lab.symmetry.reflection import Reflection
from udl_lab.symmetry.shifts import CircularShifts
from udl_lab.symmetry.square import SquareSymmetries

QUARTER = Rotations([90])
EXACT = 1e-13  # relative; sums of some hundred products in float64 round to about 1e-15
FILL = 0.3  # not the zero of a padding


def chain(**layers):
    return nn.Sequential(OrderedDict(layers)).double()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def whole(*shape, seed=0):
    """Whole numbers, small enough that float64 sums of their products are exact."""
    return torch.randint(-4, 5, shape, generator=generator(seed)).double()


def in_whole_numbers(net):
    for i, weight in enumerate(net.parameters()):
        weight.data = whole(*weight.shape, seed=i + 1)
    return net


def symmetric(net):
    """Every kernel made its own image under the eight symmetries of the square."""
    for module in net.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            w = module.weight.data
            if w.ndim == 3:
                module.weight.data = w + w.flip(-1)
            else:
                turns = [v.rot90(k, (-2, -1)) for v in (w, w.flip(-1)) for k in range(4)]
                module.weight.data = torch.stack(turns).mean(0)
    return net


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def cause(finding, label):
    reasons = {**finding.cannot, **finding.unknown}
    return reasons[label].cause if label in reasons else None


def only(net, in_shape, action):
    """The finding of the last layer, and its one element's cause."""
    finding = audit(net, in_shape, action)[-1]
    [label] = [action.label(g) for g in action.elements()]
    return finding, cause(finding, label)


# Oracle 8: rot90 and a convolution of symmetric kernel.


def cases():
    every = itertools.product((27, 28, 29), (1, 2), (2, 3, 4, 5), (0, 1, 2))
    return [(h, s, k, p) for h, s, k, p in every if p < k]  # none sees padding alone


def test_there_are_66_cases():
    assert len(cases()) == 66


def one_convolution(s, k, p):
    with seeded(k):
        return symmetric(chain(a=nn.Conv2d(1, 2, k, s, p)))


@pytest.mark.parametrize(("h", "s", "k", "p"), cases())
def test_rot90_commutes_with_a_symmetric_convolution_iff_the_rule_says_so(h, s, k, p):
    net = one_convolution(s, k, p)
    finding, why = only(net, (1, h, h), QUARTER)
    x = normal(2, 1, h, h)
    with torch.no_grad():
        error = relative(net(x.rot90(1, (-2, -1))), net(x).rot90(1, (-2, -1)))
    if (h + 2 * p - k) % s == 0:
        assert finding.status == "exact" and error < EXACT
    else:
        assert finding.status == "cannot" and why is Cause.STRIDE_PARITY and error > 0.1
    assert disagreements([finding], {("a", "+90"): error}) == []


@pytest.mark.parametrize(("k", "p", "holds"), [(3, 1, False), (4, 1, True), (2, 0, True)])
def test_the_named_strided_convolutions_of_28_pixels(k, p, holds):
    finding, why = only(one_convolution(2, k, p), (1, 28, 28), QUARTER)
    assert (finding.status == "exact") == holds
    assert why is (None if holds else Cause.STRIDE_PARITY)


@pytest.mark.parametrize(("side", "holds"), [(28, True), (14, True), (7, False)])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_pooling_by_2_keeps_quarter_turns_of_even_sides(side, holds, pool):
    net = chain(pool=pool)
    finding, why = only(net, (1, side, side), QUARTER)
    x = normal(1, 1, side, side)
    error = relative(net(x.rot90(1, (-2, -1))), net(x).rot90(1, (-2, -1)))
    assert (finding.status == "exact") == holds == (error < EXACT)
    assert why is (None if holds else Cause.POOLING_REMAINDER)


def test_the_rule_explains_two_published_reports():
    # QUVA-Lab/escnn #72: 480 pixels, kernel 7, stride 2, padding 3: 479 is odd.
    finding, why = only(one_convolution(2, 7, 3), (1, 480, 480), QUARTER)
    assert why is Cause.STRIDE_PARITY
    assert "(480 + 6 - 7) mod 2 = 1" in str(finding)
    # QUVA-Lab/e2cnn #36: two such stages work for sides 4k + 1 only.
    with seeded(0):
        net = symmetric(
            chain(a=nn.Conv2d(1, 1, 3, 2, padding=1), b=nn.Conv2d(1, 1, 3, 2, padding=1))
        )
    works = [h for h in range(30, 44) if audit(net, (1, h, h), QUARTER)[-1].status == "exact"]
    assert works == [33, 37, 41]


# Oracles 1 to 5, measured, each beside its prediction.


def circular(rank=2, padding_mode="circular", **extra):
    convolution = (nn.Conv1d, nn.Conv2d)[rank - 1]
    a = convolution(1, 3, 3, padding=1, padding_mode=padding_mode)
    b = convolution(3, 2, 5, padding=2, padding_mode=padding_mode)
    return chain(a=a, act=nn.ReLU(), b=b, **extra)


def test_a_circular_stack_commutes_with_every_roll_bitwise():
    net, x = in_whole_numbers(circular()), whole(2, 1, 8, 9)
    action = CircularShifts("all", [9, 8])
    assert [f.status for f in audit(net, (1, 8, 9), action)] == ["exact"] * 3
    with torch.no_grad():
        y = net(x)
        assert y.any()
        for right, down in action.elements():
            assert torch.equal(
                net(x.roll((down, right), (-2, -1))), y.roll((down, right), (-2, -1))
            )


def test_zero_padding_breaks_shifts_by_far_more_than_rounding():
    with seeded(0):
        net, x = circular(padding_mode="zeros"), normal(2, 1, 28, 28)
    finding, why = only(net, (1, 28, 28), CircularShifts([[1, 0]]))
    assert finding.status == "cannot" and why is Cause.UPSTREAM
    assert str(finding.cannot["right1"]) == "broken upstream: at a (padding that does not wrap)"
    with torch.no_grad():
        assert relative(net(x.roll(1, -1)), net(x).roll(1, -1)) > 0.05


def test_circular_pooling_by_2_commutes_with_even_shifts_and_refuses_odd_ones():
    net, x = in_whole_numbers(circular(pool=nn.MaxPool2d(2))), whole(2, 1, 8, 8)
    action = CircularShifts([[right, 0] for right in range(1, 8)])
    finding = audit(net, (1, 8, 8), action)[-1]
    assert finding.status == "exact for"
    assert finding.exact_for == ("right2", "right4", "right6")
    assert {cause(finding, f"right{n}") for n in (1, 3, 5, 7)} == {Cause.SHIFT_OFF_STRIDE}
    with torch.no_grad():
        for right in (2, 4, 6):
            assert torch.equal(net(x.roll(right, -1)), net(x).roll(right // 2, -1))
            with pytest.raises(ValueError, match="not a multiple"):
                action.restrict((right - 1, 0), geometry(net, (1, 8, 8))["pool"].stride[0])


def test_a_circular_signal_network_commutes_with_all_40_shifts_bitwise():
    net, x = in_whole_numbers(circular(rank=1)), whole(2, 1, 40)
    action = CircularShifts("all", [40])
    assert [f.status for f in audit(net, (1, 40), action)] == ["exact"] * 3
    with torch.no_grad():
        for right in range(40):
            assert torch.equal(net(x.roll(right, -1)), net(x).roll(right, -1))


def test_the_average_over_quarter_turns_is_invariant_bitwise():
    net = in_whole_numbers(chain(a=nn.Conv2d(1, 2, 3), flat=nn.Flatten(), b=nn.Linear(72, 5)))
    x = whole(2, 1, 8, 8)

    def averaged(x):
        return sum(net(x.rot90(k, (-2, -1))) for k in range(4))

    with torch.no_grad():
        for k in (1, 2, 3):
            assert torch.equal(averaged(x.rot90(k, (-2, -1))), averaged(x))
            assert relative(net(x.rot90(k, (-2, -1))), net(x)) > 0.5


# A family of small networks, audited and measured.


def network(rank, padding_mode, stride, pool, ending, kernel):
    convolution = (nn.Conv1d, nn.Conv2d)[rank - 1]
    pools = {
        "max2": (nn.MaxPool1d, nn.MaxPool2d)[rank - 1](2),
        "average3by2": (nn.AvgPool1d, nn.AvgPool2d)[rank - 1](3, 2, padding=1),
        "max3up": (nn.MaxPool1d, nn.MaxPool2d)[rank - 1](3, 2, ceil_mode=True),
    }
    pad = kernel // 2
    layers = OrderedDict[str, nn.Module]()
    layers["a"] = convolution(1, 3, kernel, stride, pad, padding_mode=padding_mode)
    layers["norm"] = (nn.BatchNorm1d, nn.BatchNorm2d)[rank - 1](3).eval()
    layers["act"] = nn.GELU()
    if pool:
        layers["pool"] = pools[pool]
    layers["b"] = convolution(3, 4, 3, padding=1, padding_mode=padding_mode)
    layers["act2"] = nn.Tanh()
    if ending == "mean":
        layers["mean"] = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[rank - 1](1)
    layers["flat"] = nn.Flatten()
    layers["out"] = nn.LazyLinear(3)
    return nn.Sequential(layers)


def built(side, rank, *choices):
    with seeded(0, *map(str, choices)):
        net = network(rank, *choices)
        net(torch.zeros(2, 1, *(side,) * rank))  # the size of the last layer
        return net.double()


def measured(net, in_shape, action, findings):
    """Relative errors |f(g x) - R_g f(x)| / |R_g f(x)|, wherever there is an R_g."""
    x = normal(3, *in_shape)
    places = geometry(net, in_shape)
    here = activations(net, x, sites="*")
    interior = {f.site: f.interior_only for f in findings}
    errors = {}
    for g in action.elements():
        label = action.label(g)
        there = activations(net, action.apply(x, g, FILL), sites="*")
        for site, layer in here.items():
            expected, found = layer, there[site]
            if places[site].spatial:
                [stride] = set(places[site].stride)
                try:
                    expected = action.apply(layer, action.restrict(g, stride), 0.0)
                except ValueError:
                    continue  # no R_g
                if expected.shape != found.shape:
                    continue
                if label in interior[site]:
                    inside = (..., *places[site].interior(g[::-1]))
                    expected, found = expected[inside], found[inside]
            errors[site, label] = relative(found, expected)
    return errors


SHIFTS_2D = CircularShifts([[1, 0], [2, 0], [4, 0], [0, 2], [4, 4], [8, 0]])
SHIFTS_1D = CircularShifts([[1], [2], [3], [4], [8]])
ACTIONS = {1: [SHIFTS_1D, Reflection()], 2: [SHIFTS_2D, Translations([4]), SquareSymmetries()]}


# rank, side, kernel, what follows the map, whether the kernels are symmetric
SIZES = [(1, 16, 3, "mean", True), (2, 16, 3, "mean", True), (2, 17, 4, "dense", False)]


@pytest.mark.parametrize(("rank", "side", "kernel", "ending", "made_symmetric"), SIZES)
@pytest.mark.parametrize("pool", [None, "max2", "average3by2", "max3up"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_no_prediction_disagrees_with_measurement(
    padding_mode, stride, pool, rank, side, kernel, ending, made_symmetric
):
    net = built(side, rank, padding_mode, stride, pool, ending, kernel)
    net = symmetric(net) if made_symmetric else net
    in_shape = (1, *(side,) * rank)
    for action in ACTIONS[rank]:
        findings = audit(net, in_shape, action)
        assert {r.cause for f in findings for r in f.unknown.values()} <= {Cause.OVERLAP}
        errors = measured(net, in_shape, action, findings)
        assert disagreements(findings, errors) == []
        # Nothing predicted exact went without a measurement.
        for finding in findings:
            assert all((finding.site, label) in errors for label in finding.exact_for)


def test_a_global_mean_of_an_exact_stack_makes_the_outputs_invariant():
    net = CNN(
        (1, 16, 16), 3, kernel_size=3, padding="same", padding_mode="circular", global_pool=True
    )
    findings = {f.site: f for f in audit(net, (1, 16, 16), SHIFTS_2D)}
    assert findings["blocks.0.convolution"].status == "exact"
    assert findings["output"].exact_for == ("right4", "right4down4", "right8")
    assert findings["blocks.0.pool"].exact_for == (
        "right2",
        "right4",
        "down2",
        *("right4down4", "right8"),
    )
    assert cause(findings["output"], "right2") is Cause.UPSTREAM


def test_a_pooling_of_the_whole_map_is_a_global_pooling():
    net = chain(pool=nn.AvgPool2d(6), act=nn.Tanh(), flat=nn.Flatten(), out=nn.Linear(1, 2))
    for action in (CircularShifts([[1, 0]]), QUARTER):
        assert [f.status for f in audit(net, (1, 6, 6), action)] == ["exact"] * 4
        findings = audit(net, (1, 6, 6), action)
        assert disagreements(findings, measured(net, (1, 6, 6), action, findings)) == []


# Each cause, once.


def circular_convolution(kernel, padding):
    return nn.Conv2d(1, 1, kernel, padding=padding, padding_mode="circular")


@pytest.mark.parametrize(
    ("layers", "action"),
    [
        ((circular_convolution(4, 2), nn.MaxPool2d(2)), CircularShifts([[2, 0]])),
        ((nn.MaxPool2d((2, 1)), nn.ReLU(), nn.MaxPool2d((1, 2))), QUARTER),
    ],
)
def test_what_a_later_layer_may_repair_is_not_called_broken(layers, action):
    net = nn.Sequential(*layers).double()
    findings = audit(net, (1, 8, 8), action)
    # Only windows can repair: what is elementwise stays broken.
    assert [f.status for f in findings] == ["cannot"] * (len(layers) - 1) + ["unknown"]
    assert "upstream at 0" in str(findings[-1])
    [g] = action.elements()
    x = normal(1, 1, 8, 8)
    # And here it is repaired.
    with torch.no_grad():
        there = net(action.apply(x, g, FILL))
        assert relative(there, action.apply(net(x), action.restrict(g, 2), FILL)) < EXACT


@pytest.mark.parametrize(
    ("layer", "in_shape", "action", "expected"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), (1, 8, 8), CircularShifts([[1, 0]]), Cause.PADDING),
        (nn.Conv2d(1, 1, (1, 3), padding=(0, 1)), (1, 8, 8), CircularShifts([[0, 1]]), None),
        (nn.Conv2d(1, 1, 3), (1, 8, 8), CircularShifts([[1, 0]]), Cause.OPEN_BORDER),
        (
            nn.MaxPool2d(3, 2, ceil_mode=True),
            (1, 8, 8),
            CircularShifts([[2, 0]]),
            Cause.OPEN_BORDER,
        ),
        (circular_convolution(4, 2), (1, 8, 8), CircularShifts([[1, 0]]), Cause.OVERLAP),
        (circular_convolution(4, 1), (1, 8, 8), CircularShifts([[1, 0]]), Cause.OPEN_BORDER),
        (circular_convolution(3, 1), (1, 8, 8), CircularShifts([[1, 0]]), None),
        (nn.MaxPool2d(2), (1, 8, 8), CircularShifts([[1, 0]]), Cause.SHIFT_OFF_STRIDE),
        (nn.MaxPool2d(2), (1, 8, 7), CircularShifts([[2, 0]]), Cause.POOLING_REMAINDER),
        (nn.MaxPool2d(2), (1, 7, 8), CircularShifts([[2, 0]]), None),
        (nn.Conv2d(1, 1, 1, 2), (1, 8, 8), QUARTER, Cause.STRIDE_PARITY),
        (nn.MaxPool2d((2, 1)), (1, 8, 8), QUARTER, Cause.NOT_SQUARE),
        (nn.AvgPool2d(2), (1, 8, 6), QUARTER, Cause.NOT_SQUARE),
        (nn.MaxPool2d((3, 1), 1, (1, 0)), (1, 8, 8), QUARTER, Cause.UNEQUAL_AXES),
        (nn.MaxPool2d((3, 1), 1, (1, 0)), (1, 8, 8), Rotations([180]), None),
        (nn.Conv2d(1, 1, 3), (1, 8, 8), QUARTER, Cause.KERNEL),
        (nn.Conv2d(1, 1, 1), (1, 8, 8), QUARTER, None),
        (nn.Conv2d(1, 1, 2, padding="same"), (1, 8, 8), QUARTER, Cause.EVEN_KERNEL),
        (nn.Flatten(), (1, 8, 8), QUARTER, Cause.FLATTEN),
        (nn.Conv2d(1, 1, 3), (1, 8, 8), Rotations([45]), Cause.INTERPOLATION),
        (nn.Dropout(), (1, 8, 8), QUARTER, Cause.DROPOUT),
        (nn.BatchNorm2d(1), (1, 8, 8), QUARTER, Cause.BATCH_STATISTICS),
        (nn.Dropout().eval(), (1, 8, 8), QUARTER, None),
        (nn.BatchNorm2d(1).eval(), (1, 8, 8), QUARTER, None),
        (nn.Softmax(-1), (1, 8, 8), QUARTER, Cause.UNKNOWN),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_the_cause_of_a_single_layer(layer, in_shape, action, expected):
    finding, why = only(nn.Sequential(layer), in_shape, action)
    assert why is expected
    unknown = expected in (Cause.UNKNOWN, Cause.BATCH_STATISTICS)
    assert finding.status == ("exact" if why is None else "unknown" if unknown else "cannot")


def test_zero_fill_shifts_hold_in_the_interior_alone():
    net = chain(a=nn.Conv2d(1, 1, 3, padding=1), pool=nn.MaxPool2d(2), flat=nn.Flatten())
    action = Translations([1, 2, 4, 7])
    a, pool, flat = audit(net, (1, 8, 8), action)
    assert set(a.interior_only) == set(a.exact_for) and {"right1", "right4"} <= set(a.exact_for)
    assert cause(a, "right7") is Cause.ZERO_FILL  # no place is left
    assert "right2" in pool.exact_for and cause(pool, "right1") is Cause.SHIFT_OFF_STRIDE
    assert cause(flat, "right2") is Cause.FLATTEN
    # Seven pixels are seen from one place, and six are left.
    wide = chain(a=nn.Conv2d(1, 1, 3), b=nn.Conv2d(1, 1, 5))
    assert cause(audit(wide, (1, 8, 8), Translations([2]))[1], "right2") is Cause.ZERO_FILL
    everything = chain(mean=nn.AdaptiveAvgPool2d(1))
    [mean] = audit(everything, (1, 8, 8), Translations([1]))
    assert mean.status == "cannot" and cause(mean, "right1") is Cause.ZERO_FILL


def test_a_group_convolution_depends_on_its_weights_unless_its_windows_forbid_it():
    net = C4CNN((1, 12, 12), 3, channels=(2, 2), kernel_size=3, padding="same")
    findings = audit(net, (1, 12, 12), QUARTER)
    assert {f.status for f in findings} == {"unknown"}
    assert cause(findings[0], "+90") is Cause.WEIGHTS
    strided = nn.Sequential(type(net.blocks[0].convolution)(1, 2, 3, 2, 1))
    assert only(strided, (1, 12, 12), QUARTER)[1] is Cause.STRIDE_PARITY


def test_only_the_elements_asked_for_are_audited():
    [finding] = audit(chain(pool=nn.MaxPool2d(2)), (1, 8, 8), Flips(), ["vertical"])
    assert finding.exact_for == ("vertical",)


def test_a_finding_says_in_words_what_holds_and_why_not_more():
    net = chain(pool=nn.MaxPool2d(2))
    [finding] = audit(net, (1, 8, 8), CircularShifts([[2, 0], [1, 0]]))
    assert str(finding) == (
        "pool: exact for right2; shift is no multiple of the stride: "
        "(0, 1) places of the layer before, stride 2"
    )


# What an element does, and what measurement says to a prediction.


@pytest.mark.parametrize(
    ("action", "sides"),
    [
        (CircularShifts([[3, -1], [0, 4]]), (5, 7)),
        (CircularShifts([[3]]), (7,)),
        (Translations([1, 3]), (5, 7)),
        (Flips(), (5, 7)),
        (SquareSymmetries(), (5, 5)),
        (Reflection(), (7,)),
    ],
)
def test_a_motion_does_to_any_image_what_its_element_does(action, sides):
    x = normal(2, 3, *sides)
    for g in action.elements():
        motion = motion_of(action, g, sides)
        assert torch.equal(motion.apply(x), action.apply(x, g, 0.0))


def test_motions_are_named_by_axes():
    assert motion_of(Translations([2]), (2, -2), (8, 8)) == Shift((-2, 2), wraps=False)
    assert motion_of(QUARTER, 90.0, (4, 4)) == Isometry((True, False), transposed=True)


def test_an_action_that_is_none_of_these_motions_is_unknown():
    class Shuffle(Reflection):
        def apply(self, x, element, fill):
            return x[..., [2, 0, 3, 1]]

    [finding] = audit(chain(act=nn.ReLU()), (1, 4), Shuffle())
    assert finding.status == "unknown" and cause(finding, "reflected") is Cause.UNKNOWN


def test_a_shift_that_empties_the_frame_is_refused_as_the_action_refuses_it():
    with pytest.raises(ValueError, match="empties"):
        audit(chain(act=nn.ReLU()), (1, 4, 4), Translations([4]))


def test_disagreements_name_the_layer_the_element_and_both_sides():
    net = chain(a=nn.Conv1d(1, 1, 3, padding=1), b=nn.ReLU())
    findings = audit(net, (1, 8), CircularShifts([[1]]))
    findings.append(Finding("c", exact_for=("right1",)))
    agree = {("a", "right1"): 0.2, ("b", "right1"): 0.1, ("c", "right1"): 1e-15}
    assert disagreements(findings, {**agree, ("elsewhere", "right1"): 1.0}) == []
    wrong = {("a", "right1"): 1e-15, ("b", "right1"): 0.1, ("c", "right1"): 1e-6}
    first, second = disagreements(findings, wrong)
    assert first.startswith("a at right1: measured 1e-15, predicted padding that does not wrap")
    assert second == "c at right1: predicted exact, measured 1e-06"
    assert len(disagreements(findings, {("c", "right1"): float("nan")})) == 1
    assert disagreements(findings, {("c", "right1"): 1e-6}, rounding=1e-5) == []
    with pytest.raises(ValueError, match="did you mean 'right1'"):
        disagreements(findings, {("c", "rigth1"): 0.0})
