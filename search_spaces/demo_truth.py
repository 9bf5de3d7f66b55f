"""Hold the demo's two studies against the truth of their worlds: `demo_truth.py RESULTS`."""

import json
import sys
from pathlib import Path

EXPECTED = {
    "demo_true": ("snow helps", lambda verdict: verdict == "better"),
    "demo_shuffled": ("snow is another winter's", lambda verdict: verdict != "better"),
}


def main(results: Path) -> int:
    """Print what was found beside what is true; returns the number of contradictions."""
    wrong = 0
    print("\nTruth and finding")
    for study, (truth, agrees) in EXPECTED.items():
        report = json.loads((results / study / "report" / "report.json").read_text())
        for contrast in report["contrasts"]:
            if contrast["name"].startswith("snow"):
                right = agrees(contrast["verdict"])
                wrong += not right
                found = f"{contrast['difference']:+.3f} NSE, {contrast['verdict']}"
                mark = "agrees" if right else "CONTRADICTS"
                print(f"  {truth:26} {contrast['name']:32} {found:24} {mark}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
