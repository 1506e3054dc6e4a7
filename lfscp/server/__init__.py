"""The listening side: a pynetdicom AE served by a leader/follower pool."""

from lfscp.server.leader_follower import LeaderFollowerServer

__all__ = ["LeaderFollowerServer"]
