/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CMOS clock at 0x70: a Motorola MC146818 that is always right.
 *
 * Its time is the host's, in UTC, worked out anew at each read. So there is
 * nothing to set: the guest may write the time registers, and they go on telling
 * the host's time, for that is not the guest's to change. Everything else that
 * is written is kept, battery-backed RAM and alarm included; but no alarm ever
 * rings, as no interrupt is wired up, and the DSDT does not promise one. What is
 * kept does not outlive a reboot: our battery is rather small.
 *
 * There is no update, only an answer; but seven registers are seven answers, and midnight may
 * come between them. "Update in progress" shows shortly before the second turns, as on
 * the chip: who finds it clear has that long to read them all.
 *
 * Tour 3.150
 */
#include "board/rtc.h"

#include "board/layout.h"

#include <string.h>

/*
 * MC146818A data sheet, "Address Map": registers, and the bits of A, B and D that mean something
 * here.
 */
enum {
	RTC_SECONDS = 0x00,
	RTC_MINUTES = 0x02,
	RTC_HOURS = 0x04,
	RTC_DAY_OF_WEEK = 0x06,
	RTC_DAY_OF_MONTH = 0x07,
	RTC_MONTH = 0x08,
	RTC_YEAR = 0x09,
	RTC_A = 0x0a,
	RTC_B = 0x0b,
	RTC_C = 0x0c,
	RTC_D = 0x0d,
	RTC_CENTURY = 0x32, /* not of Motorola's; the FADT says so */
};

#define RTC_A_UPDATING 0x80 /* UIP */
#define RTC_A_POWER_ON 0x26 /* 32.768 kHz, 1024 Hz: as every PC leaves it */
#define RTC_B_24_HOURS 0x02
#define RTC_B_BINARY   0x04
#define RTC_D_VALID    0x80 /* VRT: the battery is good */
#define RTC_PM	       0x80 /* of the hours, in 12-hour mode */

/* Bit 7 of the index port is the NMI mask of old. There is no NMI to be masked. */
#define RTC_INDEX_MASK 0x7f

/* MC146818A data sheet, "Update Cycle": UIP clear means that none begins within 244 us (tBUC). */
#define NS_BEFORE_UPDATE 244000
#define NS_PER_SECOND	 1000000000

#define PORT_RTC_COUNT 2

static u8 bcd(unsigned value)
{
	return (value / 10 % 10) << 4 | value % 10;
}

/* 12-hour clocks have no hour 0, and bit 7 says "afternoon". */
static u8 rtc_hours(unsigned hour, u8 mode)
{
	u8 pm = 0;

	if (!(mode & RTC_B_24_HOURS)) {
		pm = hour >= 12 ? RTC_PM : 0;
		hour = hour % 12 ? hour % 12 : 12;
	}
	return (mode & RTC_B_BINARY ? hour : bcd(hour)) | pm;
}

/* One register of the time, as register B (`mode`) wants to see it. */
static u8 rtc_time(u8 index, u8 mode, time_t now)
{
	struct tm tm = {0};
	unsigned year, value = 0;

	gmtime_r(&now, &tm);
	year = tm.tm_year + 1900;
	switch (index) {
	case RTC_SECONDS:
		value = tm.tm_sec;
		break;
	case RTC_MINUTES:
		value = tm.tm_min;
		break;
	case RTC_HOURS:
		return rtc_hours(tm.tm_hour, mode);
	case RTC_DAY_OF_WEEK:
		value = tm.tm_wday + 1;
		break;
	case RTC_DAY_OF_MONTH:
		value = tm.tm_mday;
		break;
	case RTC_MONTH:
		value = tm.tm_mon + 1;
		break;
	case RTC_YEAR:
		value = year % 100;
		break;
	case RTC_CENTURY:
		value = year / 100;
		break;
	}
	return mode & RTC_B_BINARY ? value : bcd(value);
}

static bool rtc_updating(const struct timespec *now)
{
	return now->tv_nsec >= NS_PER_SECOND - NS_BEFORE_UPDATE;
}

static u8 rtc_read_data(struct rtc *rtc)
{
	const struct timespec now = rtc->now();

	switch (rtc->index) {
	case RTC_SECONDS:
	case RTC_MINUTES:
	case RTC_HOURS:
	case RTC_DAY_OF_WEEK:
	case RTC_DAY_OF_MONTH:
	case RTC_MONTH:
	case RTC_YEAR:
	case RTC_CENTURY:
		return rtc_time(rtc->index, rtc->ram[RTC_B], now.tv_sec);
	case RTC_A:
		return (rtc->ram[RTC_A] & ~RTC_A_UPDATING) |
		       (rtc_updating(&now) ? RTC_A_UPDATING : 0);
	case RTC_C:
		return 0; /* no interrupt has happened, ever */
	case RTC_D:
		return RTC_D_VALID;
	}
	return rtc->ram[rtc->index];
}

/*
 * The index reads back: strictly it is write-only, but a driver that saves and restores it means
 * well.
 */
static u64 rtc_read(void *opaque, u64 offset, unsigned len)
{
	struct rtc *rtc = opaque;
	u64 value = 0;

	pthread_mutex_lock(&rtc->lock);
	for (unsigned i = 0; i < len; i++)
		value |= (u64)(offset + i ? rtc_read_data(rtc) : rtc->index) << (8 * i);
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void rtc_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct rtc *rtc = opaque;

	pthread_mutex_lock(&rtc->lock);
	for (unsigned i = 0; i < len; i++) {
		u8 byte = value >> (8 * i);

		if (offset + i)
			rtc->ram[rtc->index] = byte;
		else
			rtc->index = byte & RTC_INDEX_MASK;
	}
	pthread_mutex_unlock(&rtc->lock);
}

static const struct region_ops rtc_ops = {
	.read = rtc_read,
	.write = rtc_write,
};

static struct timespec host_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now;
}

void rtc_init(struct rtc *rtc, struct bus *bus)
{
	*rtc = (struct rtc){
		.region =
			{
				.base = PORT_RTC,
				.size = PORT_RTC_COUNT,
				.ops = &rtc_ops,
				.opaque = rtc,
				.name = "RTC",
			},
		.now = host_time,
	};
	pthread_mutex_init(&rtc->lock, NULL);
	rtc_reset(rtc);
	bus_add(bus, PORT, &rtc->region);
}

void rtc_reset(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	memset(rtc->ram, 0, sizeof(rtc->ram));
	rtc->ram[RTC_A] = RTC_A_POWER_ON;
	rtc->ram[RTC_B] = RTC_B_24_HOURS;
	pthread_mutex_unlock(&rtc->lock);
}

void rtc_destroy(struct rtc *rtc)
{
	pthread_mutex_destroy(&rtc->lock);
}
