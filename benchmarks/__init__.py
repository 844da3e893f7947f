"""What pytest-llmexp costs: the goals of the project as ratios, each measured within one run of one command.

`python -m benchmarks` starts every contender as a process of its own, in turns, against one loopback model server.
The process that measures imports neither pytest nor openai: a child's memory is never counted below its parent's.
"""
