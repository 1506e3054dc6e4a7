"""Leader/follower thread pool: one thread waits for work, wakes its successor, then does the work.

A port of LF_ThreadPool of dcm4che 1.4. One member is the leader: it alone waits for the next
request (in accept, usually). When it has one, it promotes a new leader and becomes a processor.
After the request it leads again, follows or leaves. There is no queue, and no request goes from one
thread to another.

Rules kept here:
- Conditions are tested and the state is changed under one lock, so both caps hold at all times.
- After a promotion that returns True there is a leader, or an heir on its way with a reserved
  place. While there is an heir, no other thread takes the lead.
- No thread polls. Each follower sleeps on a lock of its own, and exactly one is woken: the one that
  came last, whose stack and caches are the warmest. So the others sleep on, and with `max_idle_s`
  each of them leaves after so long.
- The state is one tuple, replaced as a whole, so any thread reads it without the lock.

The pool knows nothing of sockets: the handler accepts, and `wake_leader` wakes it.
"""

from lfscp.pool.leader_follower import LeaderFollowerPool
from lfscp.pool.roles import NO_LIMIT_RUNNING, NO_LIMIT_WAITING, PoolState

__all__ = ["NO_LIMIT_RUNNING", "NO_LIMIT_WAITING", "LeaderFollowerPool", "PoolState"]
