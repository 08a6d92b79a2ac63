"""Words and values that know no tables: the codec, the clock, names, durations, options, the registry."""
