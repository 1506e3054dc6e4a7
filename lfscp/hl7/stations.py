"""Which modality an order is for, and which station performs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# Modalities that a device may have (PS3.3 C.7.3.1.1.1): those of images and waveforms.
MODALITIES: Final = frozenset(
    {
        *("AR", "AU", "BDUS", "BI", "BMD", "CR", "CT", "CFM", "DG", "DX"),
        *("ECG", "EEG", "EMG", "EOG", "EPS", "ES", "GM", "HD", "IO", "IVOCT"),
        *("IVUS", "KER", "LEN", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP"),
        *("OPM", "OPR", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA", "PT"),
        *("PX", "RESP", "RF", "RG", "RTIMAGE", "SM", "SRF", "TG", "US", "VA"),
        *("XA", "XAPROTOCOL", "XC"),
    }
)
# Terms of HL7 table 0074, and what systems say instead of the term of DICOM.
_SAID: Final = {
    "NMR": "MR",
    "MRI": "MR",
    "RUS": "US",
    "VUS": "US",
    "OUS": "US",
    "CUS": "US",
    "NMS": "NM",
    "PET": "PT",
    "RX": "DX",
    "XRC": "RF",
    "CTH": "XA",
    "EC": "ECG",
    "EN": "EEG",
}
_OTHERS: Final = "*"


class Stations:
    """The tables of the settings.

    Args:
        modalities: entries "TEXT=MODALITY"; they go before the node's own table.
        stations: entries "MODALITY=AE_TITLE,…".
    """

    def __init__(self, modalities: Iterable[str] = (), stations: Iterable[str] = ()) -> None:
        own = (entry.rpartition("=") for entry in modalities)
        self._modalities = {said.upper(): modality for said, _, modality in own}
        named = (entry.partition("=") for entry in stations)
        self._stations = {modality: titles.split(",") for modality, _, titles in named}

    def modality(self, said: str) -> str:
        """The modality that a sender means; empty when nobody knows."""
        said = said.upper()
        if said in self._modalities:
            return self._modalities[said]
        return said if said in MODALITIES else _SAID.get(said, "")

    def ae_titles(self, modality: str) -> list[str]:
        """The stations of a modality."""
        return self._stations.get(modality) or self._stations.get(_OTHERS, [])
