# SPDX-License-Identifier: GPL-2.0-or-later
"""The tour: what the comments of src/ tell, in reading order. scripts/tour is who calls."""
