/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The values of --tunnet=, --net= and --sharenet=: see options.h.
 */
#include "options.h"

#include <errno.h>

int options_parse_net(struct netif_options *netif, const char *name, char *text,
		      struct problem *why)
{
	netif->name = text;
	return problem(why, ENOSYS, "--%s is not part of this version yet", name);
}
