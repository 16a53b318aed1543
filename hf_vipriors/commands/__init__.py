"""Jobs: one file each, its settings and ``main()``; wiring of the rooms below, no formulas."""
