/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest "powercut" writes, so that tests/powercut can tell what should be
 * there. Writes are numbered from 1 and go round the disk's blocks in an order that
 * comes to each once before any twice; every sector says which write it is of and
 * where it belongs, and is filled with what follows from both.
 *
 * On the serial port the guest reports, in lines "durable LOW ABOVE": the writes 1 to
 * LOW must survive from now on, and LOW + 1 + i for each bit i of ABOVE, in hex.
 */
#ifndef GUESTS_POWERCUT_H
#define GUESTS_POWERCUT_H

#include "host/types.h"

#define POWERCUT_SECTOR	       512
#define POWERCUT_BLOCK_SECTORS 8 /* what one write writes */
#define POWERCUT_BLOCK	       (POWERCUT_BLOCK_SECTORS * POWERCUT_SECTOR)
#define POWERCUT_BLOCKS	       512 /* a power of two */
#define POWERCUT_WORDS	       (POWERCUT_SECTOR / 8)

/* Odd, so that it shares no factor with the number of blocks. */
static inline u64 powercut_block(u64 number)
{
	return number * 197 % POWERCUT_BLOCKS;
}

/* Word `index` of that sector: its number, where it is, and then filling. */
static inline u64 powercut_word(u64 number, u64 sector, unsigned index)
{
	u64 word = (number << 24 ^ sector << 8 ^ index) * 0x9e3779b97f4a7c15;

	if (index == 0)
		return number;
	if (index == 1)
		return sector;
	return word ^ word >> 29;
}

#endif
