"""Helpers that every room of skecg needs and none owns; import from the files, nothing is re-exported here."""
