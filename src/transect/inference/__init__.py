"""Everything between points and a number that may be printed: draws, controls, intervals, tests, sweeps."""
