"""Benchmarks of Tidegate: each is a module here with a `main()` that prints a table and writes its results to bench/results/."""
