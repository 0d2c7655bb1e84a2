/* The floor of a rebuild: XREAD COUNT 1000 of each partition to its end, nothing parsed.
 *
 * usage: rebuild_hiredis PORT STREAM PARTITIONS; then as every contender, see bench/rounds.py
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hiredis.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Entries read; -1: the partition has no more. */
static long read_some(redisContext *redis, const char *key, char *after, size_t size) {
    redisReply *reply = redisCommand(redis, "XREAD COUNT 1000 STREAMS %s %s", key, after);
    if (!reply || reply->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "%s\n", reply ? reply->str : redis->errstr);
        exit(1);
    }
    long entries = -1;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements) {
        redisReply *list = reply->element[0]->element[1];
        entries = (long)list->elements;
        snprintf(after, size, "%s", list->element[entries - 1]->element[0]->str);
    }
    freeReplyObject(reply);
    return entries;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    redisContext *redis = redisConnect("127.0.0.1", atoi(argv[1]));
    if (!redis || redis->err) return 1;
    int partitions = atoi(argv[3]);
    double seconds;
    while (scanf(" turn %lf", &seconds) == 1) {
        long facts = 0;
        double began = now();
        do {
            for (int partition = 0; partition < partitions; partition++) {
                char key[128], after[64] = "0-0";
                snprintf(key, sizeof key, "{%s/%d}:log", argv[2], partition);
                for (long n; (n = read_some(redis, key, after, sizeof after)) >= 0;) {
                    facts += n;
                }
            }
        } while (now() - began < seconds);
        printf("{\"value\": %.1f}\n", facts / (now() - began));
        fflush(stdout);
    }
    redisFree(redis);
    return 0;
}
