"""Attributes that tell of a person, an order or a place, and that table E.1-1 lacks.

The profile would keep them, since it names what goes. Here they go: a birth date is one in any
calendar, a comment is prose, and the number of an order leads to its patient. Those that hold a
name, a date, an address or a UID are caught by their VR and are not in this list.
"""

from __future__ import annotations

from typing import Final

# Attributes of which nothing stays, and those that need a value to be valid.
REMOVED: Final = frozenset(
    {
        0x0008041B,  # Record Key
        0x0008041C,  # Prior Record Key
        0x00080418,  # Transaction Status Comment
        0x00100033,  # Patient's Birth Date in Alternative Calendar
        0x00100034,  # Patient's Death Date in Alternative Calendar
        0x00100035,  # Patient's Alternative Calendar
        0x00102295,  # Breed Registration Number
        0x00181803,  # NTP Source Address
        0x0018991A,  # Instruction Performance Comment
        0x00240044,  # Comments on Patient's Performance of Visual Field
        0x00287007,  # System Status Comment
        0x0028702A,  # Test Result Comment
        0x00400400,  # Comments on the Scheduled Procedure Step
        0x00401006,  # Placer Order Number / Procedure
        0x00401007,  # Filler Order Number / Procedure
        0x00402006,  # Placer Order Number / Imaging Service Request (Retired)
        0x00402007,  # Filler Order Number / Imaging Service Request (Retired)
        0x0040A074,  # Object Binary Identifier (Trial)
        0x0040A089,  # Object Directory Binary Identifier (Trial)
        0x0040A224,  # Identification Description (Trial)
        0x0040A33A,  # Report Status Comment (Trial)
        0x0040A992,  # Uniform Resource Locator (Trial)
        0x00440003,  # Approval Status Further Description
        0x00440106,  # Assertion Comments
        0x00741238,  # Reason for Cancellation
        0x01000424,  # SOP Authorization Comment
        0x01000426,  # Authorization Equipment Certification Number
        0x21000010,  # Print Job ID
        0x21000160,  # Owner ID
        0x21100030,  # Printer Name
        0x21100099,  # Print Queue ID
        0x30040006,  # Dose Comment
        0x300600C8,  # Frame of Reference Transformation Comment
        0x30080066,  # Override Reason
        0x30080202,  # Treatment Status Comment
        0x300A0402,  # Setup Image Comment
    }
)
REPLACED: Final = frozenset(
    {
        0x0040E001,  # HL7 Instance Identifier
        0x00420010,  # Document Title
        0x0074100C,  # Contact Display Name
        0x00880130,  # Storage Media File-set ID
        0x4010101A,  # Boarding Pass ID
        0x40101051,  # Itinerary ID
    }
)
