/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CMOS clock at 0x70: tells the host's time in UTC. No alarm, no
 * interrupts; a kernel reads it once at boot.
 *
 * Tour 3.140: A clock that is always right
 */
#ifndef BOARD_RTC_H
#define BOARD_RTC_H

#include "board/bus.h"

#include <time.h>

struct rtc {
	struct region region;
	pthread_mutex_t lock;
	u8 index;
	u8 ram[128];
	struct timespec (*now)(void); /* since the epoch; a test brings its own clock */
};

void rtc_init(struct rtc *rtc, struct bus *bus);
void rtc_reset(struct rtc *rtc);
void rtc_destroy(struct rtc *rtc);

#endif
