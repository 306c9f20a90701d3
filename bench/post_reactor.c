/* post_reactor URL COUNT [FLYING]: telemetry of a fixed text through curl_multi_socket_action on epoll, FLYING posts at
 * a time (1), each on a handle of its own that is used again: as little as a client can do that waits for many things
 * at once. */
#include "post.h"

#include <stdbool.h>
#include <sys/epoll.h>
#include <time.h>

static int epoll;
static long wake = -1; /* milliseconds of the monotonic clock; -1 for never */

static long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int on_timer(CURLM *multi, long milliseconds, void *data) {
  (void)multi, (void)data;
  wake = milliseconds < 0 ? -1 : now() + milliseconds;
  return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *known) {
  struct epoll_event event = {.data.fd = fd};
  CURLM *multi = data;
  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
    return 0;
  }
  event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
  epoll_ctl(epoll, known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
  curl_multi_assign(multi, fd, &epoll); /* anything but NULL: it is known now */
  return 0;
}

static void start(CURLM *multi, CURL *easy) {
  struct answer *answer;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&answer);
  answer->length = 0;
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, BODY);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)sizeof BODY - 1);
  if (curl_multi_add_handle(multi, easy) != CURLM_OK) exit(1);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  long left = strtol(argv[2], NULL, 10), flying = 0, most = argc > 3 ? strtol(argv[3], NULL, 10) : 1;
  CURLM *multi = curl_multi_init();
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (multi == NULL || epoll < 0) return 1;
  curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, multi);
  curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
  for (; flying < most && left > 0; flying++, left--) {
    struct answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL) return 1;
    CURL *easy = new_post(argv[1], answer);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, answer);
    start(multi, easy);
  }
  while (flying > 0) {
    struct epoll_event events[64];
    long wait = wake < 0 ? -1 : wake - now();
    int running, count = epoll_wait(epoll, events, 64, wake >= 0 && wait < 0 ? 0 : (int)wait);
    for (int i = 0; i < count; i++) {
      int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                 (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
      curl_multi_socket_action(multi, events[i].data.fd, what, &running);
    }
    if (wake >= 0 && wake <= now()) {
      wake = -1;
      curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi, &running)) != NULL) {
      CURL *easy = message->easy_handle;
      check(easy, message->data.result);
      curl_multi_remove_handle(multi, easy);
      if (left > 0) {
        start(multi, easy);
        left--;
      } else {
        struct answer *answer;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&answer);
        curl_easy_cleanup(easy);
        free(answer);
        flying--;
      }
    }
  }
  curl_multi_cleanup(multi);
  return 0;
}
