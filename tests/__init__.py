"""Tests of skecg, laid out as the package is."""
