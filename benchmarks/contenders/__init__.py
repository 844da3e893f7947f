"""The programs that are compared. Each is copied alone into an empty folder and run there, as its user would.

So none imports another, or `benchmarks`. Settings come from the environment: BENCHMARK_RUNS (how many),
BENCHMARK_IN_FLIGHT (how many at a time), BENCHMARK_MODEL (a name that tells the server how to answer, see server.py)
and OPENAI_BASE_URL. Those that measure something themselves print it as one JSON object.
"""
