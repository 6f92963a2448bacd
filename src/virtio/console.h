/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio console (virtio: Console Device): one port on standard input and
 * output, and the emergency write.
 *
 * Tour 4.220: The console
 */
#ifndef VIRTIO_CONSOLE_H
#define VIRTIO_CONSOLE_H

#include "host/terminal.h"
#include "virtio/virtio.h"

struct console {
	struct virtio_device virtio;
	struct terminal *terminal;
	bool takes_input;  /* claims standard input once its driver is ready with receive buffers */
	bool claimed;	   /* it did; a reset gives it back */
	u16 columns, rows; /* if VIRTIO_CONSOLE_F_SIZE is offered: virtio_config_begin() */
};

/* Plugs itself in. -errno with *problem filled. */
int console_init(struct console *console, struct pci_bus *pci, unsigned slot,
		 struct machine *machine, const struct memory *memory, struct terminal *terminal,
		 bool takes_input, struct problem *problem);

/* Main thread, on SIGWINCH: the terminal has another size. */
void console_resized(struct console *console);

#endif
