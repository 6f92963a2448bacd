/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The power button, as somebody presses it who would like the guest to shut down.
 *
 * Tour 3.180: The power button
 */
#ifndef BOARD_BUTTON_H
#define BOARD_BUTTON_H

#include "board/ioapic.h"

/* Any thread. A guest that does not listen at this moment never hears of it. */
void button_press(struct ioapic *ioapic);

#endif
