/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process that speaks for a guest with libslirp: a TCP/IP stack in a library,
 * which turns the guest's connections into sockets of an ordinary user.
 *
 * Tour 4.500: A TCP/IP stack in a box
 */
#ifndef HOST_SLIRP_H
#define HOST_SLIRP_H

#include "host/netif.h"

/*
 * Runs in a child (child.h), on the stream of frames at CHILD_FD, until that is hung up. Returns
 * when it cannot begin, with the reason on standard error. `opaque`: the struct netif_options.
 */
void slirp_main(void *opaque);

#endif
