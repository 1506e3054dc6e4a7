"""Makes OHIF's configuration, `app-config.js`: its data source is this node's DICOMweb.

Its paths have no host: OHIF and DICOMweb are served at the same port.
"""

from __future__ import annotations

import json
from typing import Any, Final

NAME: Final = "app-config.js"
_SOURCE: Final = "dicomweb"


def app_config(ae_title: str) -> bytes:
    """The content of the file.

    Args:
        ae_title: of the node, which the study list shows as the name of its source.
    """
    config: dict[str, Any] = {
        "name": "lfscp",
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        # The tour for newcomers covers the first pictures.
        "customizationService": [{"ohif.tours": {"$set": []}}],
        "showStudyList": True,
        "showCPUFallbackMessage": False,
        "strictZSpacingForVolumeViewport": True,
        "maxNumRequests": {"interaction": 20, "thumbnail": 5, "prefetch": 5},
        "defaultDataSourceName": _SOURCE,
        "dataSources": [_data_source(ae_title)],
    }
    # "<" is written so that no text ends a script.
    text = json.dumps(config).replace("<", "\\u003c")
    return f"window.config = {text};\n".encode()


def _data_source(ae_title: str) -> dict[str, Any]:
    return {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": _SOURCE,
        "configuration": {
            "friendlyName": ae_title,
            "name": ae_title,
            "qidoRoot": "/dicom-web",
            "wadoRoot": "/dicom-web",
            "wadoUriRoot": "/wado",
            "qidoSupportsIncludeField": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "supportsReject": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "dicomUploadEnabled": False,
            "singlepart": "video",
            "bulkDataURI": {"enabled": True},
            "omitQuotationForMultipartRequest": False,
        },
    }
