"""What is typed after a command is read, or refused with what to type instead."""

import pytest

from udl_lab.errors import UsageError
from udl_lab.settings import changes, choice, number, option, read_settings, switch, whole

KEYS = {
    "run": "the run's folder",
    "sampler": "how",
    "seed": "of the noise",
    "weights": "best or last",
}
OPTIONS = ["ddim", "ddpm"]


def read(*words, group="sampler"):
    return read_settings("program", "What it does.", KEYS, words, group, OPTIONS)


def test_settings_are_read_as_typed_up_to_the_first_equals_sign():
    given = read("run=a=b", "seed=3", "sampler=ddpm", "sampler.steps=20")
    assert given == {"run": "a=b", "seed": "3", "sampler": "ddpm", "sampler.steps": "20"}
    assert changes(given, "sampler") == {"steps": "20"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=a", "sed=3"], "there is no key 'sed'; did you mean 'seed'"),
        (["seed=3"], "say which run: run=FOLDER"),
        (["run="], "say which run: run=FOLDER"),
        (["run=a", "samplers.steps=3"], "there is no key 'samplers.steps'"),
    ],
)
def test_a_wrong_key_or_no_run_is_refused(words, message):
    with pytest.raises(UsageError, match=message):
        read(*words)


def test_a_group_s_keys_are_refused_where_there_is_no_group():
    with pytest.raises(UsageError, match=r"there is no key 'sampler\.steps'"):
        read("run=a", "sampler.steps=3", group=None)


def test_help_explains_every_key_and_option(capsys):
    with pytest.raises(SystemExit) as ended:
        read("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for said in ("What it does.", *KEYS, *KEYS.values(), "sampler.KEY=", "sampler: ddim, ddpm"):
        assert said in shown


def test_nothing_given_means_the_default():
    assert option({}, "sampler", OPTIONS, "ddim") == "ddim"
    assert choice({}, "weights", ("best", "last")) is None
    assert choice({}, "undivided", ("refuse", "skip"), "refuse") == "refuse"
    assert whole({}, "n", 64, least=1) == 64
    assert number({}, "guidance", 0.5) == 0.5
    assert switch({}, "clip", True) is True


def test_what_is_given_replaces_the_default():
    given = {"sampler": "ddpm", "weights": "last", "n": "5", "guidance": "-1.5", "clip": "False"}
    assert option(given, "sampler", OPTIONS, "ddim") == "ddpm"
    assert choice(given, "weights", ("best", "last")) == "last"
    assert whole(given, "n", 64, least=1) == 5
    assert number(given, "guidance", 0.0) == -1.5
    assert switch(given, "clip", True) is False


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "²", "many", ""])
def test_a_whole_number_is_one_and_not_too_small(text):
    with pytest.raises(UsageError, match=f"n={text}: give a whole number from 1 up"):
        whole({"n": text}, "n", 64, least=1)


@pytest.mark.parametrize(
    ("read_one", "message"),
    [
        (lambda: option({"sampler": "dim"}, "sampler", OPTIONS, "ddim"), "did you mean 'ddim'"),
        (lambda: choice({"weights": "b"}, "weights", ("best", "last")), "choose best or last"),
        (lambda: number({"guidance": "x"}, "guidance", 0.0), "guidance=x: give a number"),
        (lambda: switch({"clip": "Yes"}, "clip", True), "clip=Yes: choose true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_what_may_stand_there(read_one, message):
    with pytest.raises(UsageError, match=message):
        read_one()
