"""What the gateway costs, measured beside the bare CLI: `make bench`, or `python -m benchmarks --help`.

Both sides run the same CLI with the same arguments and environment against the same scripted model, one
after the other in short rounds, so that noise of the machine hits both. The benchmark process is the client
of both; servers and CLIs are processes of their own.

`plan` says how much is measured, `stack` starts what is measured, `bare` and `gateway` ask, `reply` notes
what came when, `first_token`, `streams`, `throughput` and `sessions` are the measurements, `results` what
they give, `figures` the arithmetic, `tables` the words.
"""
