"""Backtests: what a rule, or a change of one, would have done with the payments of some days, and was it right."""

from rules.backtest.backtest import run

__all__ = ["run"]
