/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The value of --block=: see options.h.
 */
#include "options.h"

#include <errno.h>

int options_parse_disk(struct disk_options *disk, char *text, struct problem *why)
{
	disk->file = text;
	return problem(why, ENOSYS, "--block is not part of this version yet");
}
