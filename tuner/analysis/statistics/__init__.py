"""Tests, intervals and power: arrays in, numbers out. No record and no arm is known here."""
