"""What most would write first: a job of ARQ for each request, and a channel of Redis for what it says.

As small as it can be and still be honest: ARQ as it comes, the same CLI, the same clients and judge.
"""
