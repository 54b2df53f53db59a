"""Scores made of yes-or-no judgements: criteria with weights, their calculator, and reading judgements out of text. Pure."""

from orka.scoring.calculator import BooleanScoreCalculator
from orka.scoring.presets import CONTEXTS, PRESETS, Context

__all__ = ["CONTEXTS", "PRESETS", "BooleanScoreCalculator", "Context"]
