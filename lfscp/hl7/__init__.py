"""HL7 version 2: hospitals fill the worklist by it, over MLLP."""
