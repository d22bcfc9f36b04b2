"""Prints figures as rows of a table in markdown."""


class Table:
    """Prints a row for each figure, and remembers whether any was out of bounds."""

    def __init__(self):
        self.is_good = True
        print("| work | figure | measured | bound | |")
        print("|---|---|---|---|---|")

    def row(self, work, figure, measured, bound="", is_good=True):
        """A figure. Without a bound it is only told."""
        self.is_good &= is_good
        verdict = ("pass" if is_good else "FAIL") if bound else ""
        print(f"| {work} | {figure} | {measured} | {bound} | {verdict} |", flush=True)
