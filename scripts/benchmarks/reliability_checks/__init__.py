"""What scripts/benchmarks/reliability.py examines, one module per question."""
