"""Messages say what to type instead of what was typed."""

from udl_lab.errors import nearest


def test_a_near_name_is_suggested():
    assert nearest("mnsit", ["mnist", "digits", "mnist1d"]).startswith("did you mean 'mnist'")
    assert nearest("digitz", ["mnist", "digits"]) == "did you mean 'digits'?"


def test_without_a_near_name_all_are_listed_in_order():
    assert nearest("xyz", ["b", "a"]) == "choose from: a, b"


def test_of_many_names_the_first_twenty_are_listed():
    names = [f"name{i:02d}" for i in range(21)]
    assert nearest("?", names) == "choose from: " + ", ".join(names[:20]) + ", …"
    assert nearest("?", names[:20]) == "choose from: " + ", ".join(names[:20])


def test_of_no_names_it_is_said_that_there_are_none():
    assert nearest("x", []) == "there is none to choose from"
