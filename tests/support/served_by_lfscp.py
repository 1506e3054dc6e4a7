"""A pytest plugin: `AE.start_server(block=False)` gives lfscp's server instead of pynetdicom's."""

from pynetdicom.ae import ApplicationEntity

from lfscp import LeaderFollowerServer


def _start_server(
    self,
    address,
    block=True,
    ssl_context=None,
    evt_handlers=None,
    ae_title=None,
    contexts=None,
):
    assert not block, "only servers that run beside their test are exchanged"
    server = LeaderFollowerServer(
        self,
        address,
        evt_handlers=evt_handlers,
        ssl_context=ssl_context,
        ae_title=ae_title,
        contexts=contexts,
    )
    server.start()
    return server


ApplicationEntity.start_server = _start_server
