"""The names of rows."""

from dataclasses import replace

from udl_lab.probes.statistics import Interval
from udl_lab.probes.table import Row, records, row


def test_a_row_is_its_interval_and_where_it_was_measured():
    found = row("rho", Interval(0.5, 0.25, 1.0), 7, site="fc", element="+90", note="exact")
    assert found == Row("rho", 0.5, 0.25, 1.0, 7, site="fc", element="+90", note="exact")


def test_a_key_names_measure_metric_layer_and_element_and_leaves_out_what_is_empty():
    full = Row("rho", 0.5, 0.25, 1.0, 7, site="blocks.0", element="+90", measure="rotation")
    assert full.key == "rotation/rho/blocks.0@+90"
    assert replace(full, element="").key == "rotation/rho/blocks.0"
    assert replace(full, site="", metric="accuracy").key == "rotation/accuracy@+90"


def test_records_are_the_rows_with_their_keys():
    full = Row("rho", 0.5, 0.25, 1.0, 7, "fc", "+90", "exact", "rotation")
    assert records([full]) == [
        {
            "key": "rotation/rho/fc@+90",
            "metric": "rho",
            "estimate": 0.5,
            "low": 0.25,
            "high": 1.0,
            "n": 7,
            "site": "fc",
            "element": "+90",
            "note": "exact",
            "measure": "rotation",
        }
    ]
