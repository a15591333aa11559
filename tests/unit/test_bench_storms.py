"""What a benchmark keeps of a storm."""

import json

import msgspec

from bench.storm_runs import row
from loadtest.outcome import Leftover
from tests.unit.test_load_report import result


def test_a_row_that_is_not_clean_explains_itself() -> None:
    """Who was not back, who did not come, what was to happen and did not, and which objective was missed: nothing of it is left out."""
    one = result(limits={"all_back_s": 1.0})
    amiss = {"leftover": Leftover(away=3, barred={"token_revoked": 1}), "absence": "9 of 10 people came", "problems": ["no hook"]}
    verdict = msgspec.structs.replace(one.verdict, clean=False, missing=2, **amiss)
    told = json.loads(json.dumps(row(msgspec.structs.replace(one, ok=False, verdict=verdict))))
    assert told["leftover"] == "3 not back, 1 refused for good: token_revoked"
    assert (told["absence"], told["missing"], told["problems"]) == ("9 of 10 people came", 2, ["no hook"])
    assert len(told["objectives_missed"]) == 1 and "all_back_s" in told["objectives_missed"][0]
    well = row(result())
    assert well["clean"] and not any(well[name] for name in ("leftover", "absence", "missing", "problems", "objectives_missed"))
