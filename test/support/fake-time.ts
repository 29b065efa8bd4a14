/** Variables with which a program believes that it is another time: `+10m`, `-10m`. */
export function fakeTime(offset: string): NodeJS.ProcessEnv {
  return {
    LD_PRELOAD: "/usr/$LIB/faketime/libfaketime.so.1",
    FAKETIME: offset,
    // Else waits go wrong.
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
  };
}
