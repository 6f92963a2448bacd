/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks: see disk.h.
 */
#include "host/disk.h"

#include <errno.h>

int disk_open(struct disk *disk, const struct disk_options *options, struct problem *why)
{
	disk->options = options;
	return problem(why, ENOSYS, "disks are not part of this version yet");
}

void disk_close(struct disk *disk)
{
	(void)disk;
}
